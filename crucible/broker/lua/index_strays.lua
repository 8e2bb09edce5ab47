-- Give an index row, dated now, to claims that have none: no sweep would find them.
--
-- KEYS[1] unacked   KEYS[2] unacked_index   ARGV[1] rows of one scan step
-- Returns how many there were.

local time = redis.call('TIME')
local now = time[1] .. '.' .. string.format('%06d', time[2])
local cursor, strays = '0', 0
repeat
  local page = redis.call('HSCAN', KEYS[1], cursor, 'COUNT', ARGV[1])
  cursor = page[1]
  for at = 1, #page[2], 2 do
    strays = strays + redis.call('ZADD', KEYS[2], 'NX', now, page[2][at])
  end
until cursor == '0'
return strays
