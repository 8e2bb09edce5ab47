-- Move delayed messages whose eta has passed to the consumer end of their lists.
--
-- KEYS[1] unacked   KEYS[2] unacked_index
-- ARGV[1] visibility timeout   ARGV[2] limit   ARGV[3] key prefix   ARGV[4] step separator
-- ARGV[5] start of delayed fields: `crucible|delayed|<step>|`
-- Returns {server seconds, microseconds, messages moved, score of the earliest row left or '',
--   field, score, ... of stale claims met on the way, for the sweeper}
--
-- The earliest eta ends up nearest the consumers: RPOP takes what was pushed last.

local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local rows = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%.6f', now - ARGV[1]),
  'WITHSCORES', 'LIMIT', 0, ARGV[2])
local stale, moved = {}, 0
for at = #rows - 1, 1, -2 do
  local field = rows[at]
  local value = redis.call('HGET', KEYS[1], field)
  if not value then
    redis.call('ZREM', KEYS[2], field)
  elseif string.sub(field, 1, #ARGV[5]) == ARGV[5] then
    local step = string.match(field, '^(%d+)|', #ARGV[5] + 1)
    local raw, queue = string.match(value, '^%[(.*), "", (".*")%]$')
    queue = cjson.decode('[' .. queue .. ']')[1]
    local list = ARGV[3] .. queue
    if step ~= '0' then
      list = list .. ARGV[4] .. step
    end
    redis.call('RPUSH', list, raw)
    redis.call('HDEL', KEYS[1], field)
    redis.call('ZREM', KEYS[2], field)
    moved = moved + 1
  else
    stale[#stale + 1] = field
    stale[#stale + 1] = rows[at + 1]
  end
end
local first = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
return { time[1], time[2], moved, first[2] or '', unpack(stale) }
