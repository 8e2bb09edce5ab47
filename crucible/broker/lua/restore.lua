-- include: store.lua
-- Take one claim away from an owner who is gone: back to its list, or to the dead letters.
--
-- KEYS[1] unacked   KEYS[2] unacked_index   KEYS[3] owner's sign of life   KEYS[4] owner's fence
-- KEYS[5] where to  KEYS[6] result key (may be absent)
-- ARGV[1] field     ARGV[2] value it was read with   ARGV[3] score it was read with
-- ARGV[4] 'owner': only while the owner shows no life; 'age': only while the score is unchanged
-- ARGV[5] 'list' or 'bury'   ARGV[6] message   ARGV[7] result, '' for none
-- ARGV[8] seconds results are kept   ARGV[9] how many dead letters are kept, about
-- ARGV[10..] name, value ... of the dead letter
-- Returns 1 if it was taken.

if ARGV[4] == 'owner' then
  if redis.call('EXISTS', KEYS[3]) == 1 then
    return 0
  end
elseif redis.call('ZSCORE', KEYS[2], ARGV[1]) ~= ARGV[3] then
  return 0
end
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then
  return 0
end

if ARGV[5] == 'list' then
  redis.call('RPUSH', KEYS[5], ARGV[6])
else
  redis.call('XADD', KEYS[5], 'MAXLEN', '~', ARGV[9], '*', 'raw', ARGV[6], unpack(ARGV, 10))
  if ARGV[7] ~= '' then
    store(KEYS[6], ARGV[7], ARGV[8])
  end
end
if ARGV[4] == 'owner' then
  redis.call('SET', KEYS[4], 1, 'EX', 3600)
end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return 1
