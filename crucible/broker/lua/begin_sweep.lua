-- Find out whether the server takes writes, who it is, and whether a sweep is ours to make.
--
-- KEYS[1] mark of a sweep   KEYS[2] known workers
-- ARGV[1] 'look': only look; 'begin': take the mark, unless another worker has it; 'renew': keep it
-- ARGV[2] milliseconds the mark lasts
-- Returns {server seconds, microseconds, run id or '', 1 if the mark is ours else 0}
--
-- The first write takes no memory, so a server whose memory is full is swept as well; a replica, or
-- one that cannot write for another reason, refuses it, as it refuses the others' heartbeats.

redis.call('ZREM', KEYS[2], '')
local time = redis.call('TIME')
local info = redis.pcall('INFO', 'server')
local run_id = type(info) == 'string' and string.match(info, 'run_id:(%w+)') or ''
local ours = false
if ARGV[1] == 'begin' then
  ours = redis.call('SET', KEYS[1], 1, 'NX', 'PX', ARGV[2])
elseif ARGV[1] == 'renew' then
  ours = redis.call('SET', KEYS[1], 1, 'PX', ARGV[2])
end
return { time[1], time[2], run_id, ours and 1 or 0 }
