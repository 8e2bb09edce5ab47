-- Put claims that were never started back at the consumer end of their lists, unchanged.
--
-- KEYS[1] unacked   KEYS[2] unacked_index   KEYS[3..] step lists
-- ARGV: field, list number, ... newest claim first, so that the oldest is served first again
-- Returns how many were still ours.

-- On a server whose memory is full this lets all that follows through: a script may write once it
-- has written something that takes no memory, and what ends a claim gives back what its message took.
redis.call('ZREM', KEYS[2], '')

local ours = 0
for at = 1, #ARGV, 2 do
  local field = ARGV[at]
  local value = redis.call('HGET', KEYS[1], field)
  if value then
    redis.call('RPUSH', KEYS[2 + ARGV[at + 1]], string.match(value, '^%[(.*), "", ".*"%]$'))
    redis.call('HDEL', KEYS[1], field)
    ours = ours + 1
  end
  redis.call('ZREM', KEYS[2], field)
end
return ours
