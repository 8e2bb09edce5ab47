-- Write a worker's heartbeat and extend the leases of its claims, so that recovery leaves them.
--
-- KEYS[1] unacked_index   KEYS[2] heartbeat   KEYS[3] fence: set by who took its claims away
-- KEYS[4] known workers
-- ARGV[1] the heartbeat's value   ARGV[2] seconds it lasts   ARGV[3] worker id   ARGV[4..] fields
-- Returns {server seconds, microseconds, 1 if fenced else 0, fields that are no claims any more ...}

-- On a server whose memory is full this lets all that follows through: a script may write once it
-- has written something that takes no memory. Who cannot show a heartbeat would be taken for dead.
redis.call('ZREM', KEYS[1], '')

local time = redis.call('TIME')
local now = time[1] .. '.' .. string.format('%06d', time[2])
redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[2])
redis.call('ZADD', KEYS[4], now, ARGV[3])
local out = { time[1], time[2], redis.call('EXISTS', KEYS[3]) }
for at = 4, #ARGV do
  if redis.call('ZSCORE', KEYS[1], ARGV[at]) then
    redis.call('ZADD', KEYS[1], 'XX', now, ARGV[at])
  else
    out[#out + 1] = ARGV[at]
  end
end
return out
