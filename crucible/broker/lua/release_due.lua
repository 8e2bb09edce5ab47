-- Move delayed messages whose eta has passed to the consumer end of their lists.
--
-- KEYS[1] unacked   KEYS[2] unacked_index
-- ARGV[1] visibility timeout   ARGV[2] limit   ARGV[3] key prefix   ARGV[4] step separator
-- ARGV[5] start of delayed fields; `<step>|<random>` follows
-- ARGV[6] seconds that a message waits more whose list refused it
-- Returns {server seconds, microseconds, messages moved, score of the earliest row left or '',
--   messages refused by their lists, field, score, ... of stale claims met on the way, for recovery}
--
-- The earliest eta ends up nearest the consumers: RPOP takes what was pushed last. A message whose
-- list refuses it, because its key is of another type, waits for some time: an error of one row must
-- not hold up the others.

-- On a server whose memory is full this lets all that follows through: a script may write once it
-- has written something that takes no memory, and what moves a message gives back what its message took.
redis.call('ZREM', KEYS[2], '')

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

-- Whether it was a delayed message; what is none of ours is left to recovery.
local function release(field, value)
  local raw, queue = string.match(value, '^%[(.*), "", (".*")%]$')
  local list = raw and list_of(field, queue)
  if not list then
    return false
  end
  local reply = redis.pcall('RPUSH', list, raw)
  if type(reply) == 'table' then
    redis.call('ZADD', KEYS[2], string.format('%.6f', now - ARGV[1] + ARGV[6]), field)
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
  elseif string.sub(field, 1, #ARGV[5]) ~= ARGV[5] or not release(field, value) then
    stale[#stale + 1] = field
    stale[#stale + 1] = rows[at + 1]
  end
end
local first = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
return { time[1], time[2], moved, first[2] or '', refused, unpack(stale) }
