-- Move delayed messages whose eta has passed to the consumer end of their lists.
--
-- KEYS[1] unacked   KEYS[2] unacked_index
-- ARGV[1] visibility timeout   ARGV[2] limit   ARGV[3] key prefix   ARGV[4] step separator
-- ARGV[5] start of delayed fields: `crucible|delayed|<step>|`
-- Returns {server seconds, microseconds, messages moved, score of the earliest row left or '',
--   messages refused by their lists, field, score, ... of stale claims met on the way, for the sweeper}
--
-- The earliest eta ends up nearest the consumers: RPOP takes what was pushed last. A message whose
-- list refuses it, its key being of another type, waits for another while: no error of one row may
-- hold up the others.

local AGAIN_S = 60

local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local rows = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%.6f', now - ARGV[1]),
  'WITHSCORES', 'LIMIT', 0, ARGV[2])
local stale, moved, refused = {}, 0, 0
local function list_of(field, queue)
  local step = string.match(field, '^(%d+)|', #ARGV[5] + 1)
  local ok, name = pcall(cjson.decode, '[' .. queue .. ']')
  if not step or not ok then
    return nil
  end
  local list = ARGV[3] .. name[1]
  return step == '0' and list or list .. ARGV[4] .. step
end

-- Whether a delayed message is dealt with; what is none of ours is the sweeper's.
local function hand_out(field, value)
  local raw, queue = string.match(value, '^%[(.*), "", (".*")%]$')
  local list = raw and list_of(field, queue)
  if not list then
    return false
  end
  local reply = redis.pcall('RPUSH', list, raw)
  if type(reply) == 'table' then
    redis.call('ZADD', KEYS[2], string.format('%.6f', now - ARGV[1] + AGAIN_S), field)
    refused = refused + 1
  else
    redis.call('HDEL', KEYS[1], field)
    redis.call('ZREM', KEYS[2], field)
    moved = moved + 1
  end
  return true
end

for at = #rows - 1, 1, -2 do
  local field = rows[at]
  local value = redis.call('HGET', KEYS[1], field)
  if not value then
    redis.call('ZREM', KEYS[2], field)
  elseif string.sub(field, 1, #ARGV[5]) ~= ARGV[5] or not hand_out(field, value) then
    stale[#stale + 1] = field
    stale[#stale + 1] = rows[at + 1]
  end
end
local first = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
return { time[1], time[2], moved, first[2] or '', refused, unpack(stale) }
