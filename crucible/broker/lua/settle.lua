-- include: store.lua
-- End one claim by handing its message on: retried, requeued or buried, with its result if any.
--
-- KEYS[1] unacked   KEYS[2] unacked_index   KEYS[3] where to   KEYS[4] result key (may be absent)
-- ARGV[1] field     ARGV[2] how: head, tail, park, bury       ARGV[3] raw message
-- ARGV[4] result, '' for none   ARGV[5] seconds results are kept, 0 for ever
-- how = park: ARGV[6] new field   ARGV[7] eta   ARGV[8] visibility timeout   ARGV[9] queue as JSON
-- how = bury: ARGV[6] how many dead letters are kept, about   ARGV[7..] name, value ...
-- Returns 1, or 0 when the claim was no longer ours: then nothing was changed, for its new owner
-- will do the same.
--
-- head: end the consumers take from. tail: end the producers push to. The message is written
-- before the claim is dropped, so that an error in between loses nothing.

if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then
  redis.call('ZREM', KEYS[2], ARGV[1])
  return 0
end

local how = ARGV[2]
if how == 'head' then
  redis.call('RPUSH', KEYS[3], ARGV[3])
elseif how == 'tail' then
  redis.call('LPUSH', KEYS[3], ARGV[3])
elseif how == 'park' then
  local time = redis.call('TIME')
  if tonumber(ARGV[7]) <= time[1] + time[2] / 1000000 then
    redis.call('LPUSH', KEYS[3], ARGV[3])
  else
    redis.call('HSET', KEYS[1], ARGV[6], '[' .. ARGV[3] .. ', "", ' .. ARGV[9] .. ']')
    redis.call('ZADD', KEYS[2], string.format('%.6f', ARGV[7] - ARGV[8]), ARGV[6])
  end
elseif how == 'bury' then
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[6], '*', 'raw', ARGV[3], unpack(ARGV, 7))
end

if ARGV[4] ~= '' then
  store(KEYS[4], ARGV[4], ARGV[5])
end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return 1
