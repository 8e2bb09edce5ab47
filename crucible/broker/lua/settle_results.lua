-- include: store_result.lua
-- Acknowledge any number of claims: store and publish their results, drop the claims.
--
-- KEYS[1] unacked   KEYS[2] unacked_index   KEYS[3..] result keys, which are channels as well
-- ARGV[1] seconds results are kept, 0 for ever      ARGV[2] number of claims to drop
-- ARGV[3..] the claims' fields, then the results in the order of their keys
-- Returns {claims that were still ours, results stored}
--
-- A claim that recovery gave to another worker has another field by now, so dropping ours cannot
-- touch theirs.

local fields = tonumber(ARGV[2])
if fields > 0 then
  -- On a server whose memory is full this lets all that follows through: a script may write once it
  -- has written something that takes no memory, and what ends a claim gives back what its message took.
  redis.call('ZREM', KEYS[2], '')
end
local stored, ours = 0, 0
for number = 3, #KEYS do
  stored = stored + store(KEYS[number], ARGV[fields + number], ARGV[1])
end
if fields > 0 then
  ours = redis.call('HDEL', KEYS[1], unpack(ARGV, 3, fields + 2))
  redis.call('ZREM', KEYS[2], unpack(ARGV, 3, fields + 2))
end
return { ours, stored }
