-- Turn claims into delayed messages: the same value under a field that belongs to no worker.
--
-- KEYS[1] unacked   KEYS[2] unacked_index
-- ARGV[1] visibility timeout   ARGV[2..] field, new field, eta (seconds since the epoch), ...
-- Returns {server seconds, microseconds, fields whose eta has passed: they stay claimed ...}
--
-- The score is eta - visibility timeout, so that a stock sweep hands the message back when due.

-- On a server whose memory is full this lets all that follows through: a script may write once it
-- has written something that takes no memory, and what ends a claim gives back what its message took.
redis.call('ZREM', KEYS[2], '')

local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local out = { time[1], time[2] }
for at = 2, #ARGV, 3 do
  local field, delayed, eta = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  if eta <= now then
    out[#out + 1] = field
  else
    local value = redis.call('HGET', KEYS[1], field)
    if value then
      redis.call('HSET', KEYS[1], delayed, value)
      redis.call('ZADD', KEYS[2], string.format('%.6f', eta - ARGV[1]), delayed)
      redis.call('HDEL', KEYS[1], field)
    end
    redis.call('ZREM', KEYS[2], field)
  end
end
return out
