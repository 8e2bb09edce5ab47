-- Give an index row, dated now, to claims that have none: no sweep would find them.
--
-- KEYS[1] unacked   KEYS[2] unacked_index
-- ARGV[1] cursor of HSCAN, 0 to begin   ARGV[2] rows looked at, about
-- Returns {cursor to go on with, 0 at the end, rows that had none}
--
-- One page a call: a walk through a hundred thousand delayed messages would hold up everybody.

-- On a server whose memory is full this lets all that follows through: a script may write once it
-- has written something that takes no memory. What no sweep finds would keep its memory for ever.
redis.call('ZREM', KEYS[2], '')

local time = redis.call('TIME')
local now = time[1] .. '.' .. string.format('%06d', time[2])
local strays = 0
local page = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
for at = 1, #page[2], 2 do
  strays = strays + redis.call('ZADD', KEYS[2], 'NX', now, page[2][at])
end
return { page[1], strays }
