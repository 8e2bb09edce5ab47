-- include: store_result.lua
-- Settle one claim by sending its message on: requeued, delayed or dead-lettered, with its result
-- if it has one.
--
-- KEYS[1] unacked   KEYS[2] unacked_index   KEYS[3] target   KEYS[4] result key (may be absent)
-- ARGV[1] field     ARGV[2] destination      ARGV[3] raw message
-- ARGV[4] result, '' for none   ARGV[5] seconds results are kept, 0 for ever
-- destination = head or tail of the list KEYS[3]
-- destination = delayed: ARGV[6] new field   ARGV[7] eta, seconds since the epoch
--   ARGV[8] visibility timeout   ARGV[9] queue as JSON   KEYS[3] its list, where the eta has passed
-- destination = dead_letters: KEYS[3] the stream   ARGV[6] how many are kept, about
--   ARGV[7..] name, value ...
-- Returns 1, or 0 when the claim was no longer ours: then nothing was changed, as the message's new
-- owner will settle it.
--
-- head: end the consumers take from. tail: end the producers push to. The message is written
-- before the claim is dropped, so that an error in between loses nothing.

if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then
  redis.call('ZREM', KEYS[2], ARGV[1])
  return 0
end

-- On a server whose memory is full this lets all that follows through: a script may write once it
-- has written something that takes no memory, and what ends a claim gives back what its message took.
redis.call('ZREM', KEYS[2], '')

local destination = ARGV[2]
if destination == 'head' then
  redis.call('RPUSH', KEYS[3], ARGV[3])
elseif destination == 'tail' then
  redis.call('LPUSH', KEYS[3], ARGV[3])
elseif destination == 'delayed' then
  local time = redis.call('TIME')
  if tonumber(ARGV[7]) <= time[1] + time[2] / 1000000 then
    redis.call('LPUSH', KEYS[3], ARGV[3])
  else
    redis.call('HSET', KEYS[1], ARGV[6], '[' .. ARGV[3] .. ', "", ' .. ARGV[9] .. ']')
    redis.call('ZADD', KEYS[2], string.format('%.6f', ARGV[7] - ARGV[8]), ARGV[6])
  end
elseif destination == 'dead_letters' then
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[6], '*', 'raw', ARGV[3], unpack(ARGV, 7))
end

if ARGV[4] ~= '' then
  store(KEYS[4], ARGV[4], ARGV[5])
end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return 1
