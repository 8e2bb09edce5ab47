-- Append a batch of events to the stream, once.
--
-- KEYS[1] stream   KEYS[2] number of the writer's last batch
-- ARGV[1] number of this batch   ARGV[2] entries the stream keeps, about
-- ARGV[3] seconds the number is kept   ARGV[4] name of an entry's field   ARGV[5..] events
-- Returns events appended: 0 where the batch was appended before and only its reply was lost.

local last = redis.call('GET', KEYS[2])
if last and tonumber(last) >= tonumber(ARGV[1]) then
  return 0
end
for number = 5, #ARGV do
  redis.call('XADD', KEYS[1], '*', ARGV[4], ARGV[number])
end
redis.call('XTRIM', KEYS[1], 'MAXLEN', '~', ARGV[2])
redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[3])
return #ARGV - 4
