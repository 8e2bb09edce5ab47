-- Claim up to n messages: pop them from the lists, in their order, and record each in unacked.
--
-- KEYS[1] unacked            KEYS[2] unacked_index       KEYS[3] dead letters
-- KEYS[4..] step lists, in the order of service
-- ARGV[1] start of the field names      ARGV[2] number of the last field used
-- ARGV[3] n                             ARGV[4] how many dead letters are kept, about
-- ARGV[5..] name of each list's queue as a JSON string, one a list
-- Returns {server seconds, microseconds, dead letters made, list number, raw, list number, raw ...}
--
-- Once the messages taken have MOST_BYTES no more are: a reply too large for a slow link to bring in
-- time would leave claims that no worker knows of.
--
-- A stock sweep removes what it cannot restore, so only an object whose headers and delivery_info
-- can take kombu's `redelivered` enters `unacked`; the rest becomes a dead letter in the same step.

local MOST_BYTES = 1048576
-- Messages popped before their size is known; what is too much goes back.
local FIRST = 100

-- A key of another type must fail here: after a pop it would be too late.
redis.call('HLEN', KEYS[1])
redis.call('ZCARD', KEYS[2])

-- Absent is fine for kombu; an array is not, and decodes to the same empty table as an object.
local function takes_flag(value, name, raw)
  if value == nil then
    return true
  end
  if type(value) ~= 'table' or value[1] ~= nil then
    return false
  end
  return next(value) ~= nil or not string.find(raw, '"' .. name .. '"%s*:%s*%[')
end

-- Decoding costs more than all else here together, so what stands where stock producers and ours
-- write it passes without being decoded. Base64 and escaped strings cannot hold these quotes, so only a
-- forgery can have them in the wrong place. It harms only itself: the worker that claims it makes it a
-- dead letter at once.
local HEAD = '{"body": "'
local MIDDLE = '", "content-encoding": "utf-8", "content-type": "application/json", '
  .. '"headers": {"lang": "'
local END = '"}}'

local function looks_stock(raw, queue)
  local info = '"delivery_info": {"exchange": "", "routing_key": ' .. queue .. '}, "priority": '
  return string.sub(raw, 1, #HEAD) == HEAD and string.sub(raw, -#END) == END
    and string.find(raw, MIDDLE, #HEAD, true)
    and string.find(raw, info, -#info - 120, true)
end

local function restorable(raw, queue)
  if looks_stock(raw, queue) then
    return true
  end
  if string.byte(raw, 1) ~= 123 then
    return false
  end
  local ok, message = pcall(cjson.decode, raw)
  if not ok or type(message) ~= 'table' then
    return false
  end
  local properties = message.properties
  if not takes_flag(message.headers, 'headers', raw)
    or not takes_flag(properties, 'properties', raw) then
    return false
  end
  return properties == nil or takes_flag(properties.delivery_info, 'delivery_info', raw)
end

local function add_dead_letter(raw, queue, now)
  local reply = redis.pcall('XADD', KEYS[3], 'MAXLEN', '~', ARGV[4], '*',
    'raw', raw, 'queue', cjson.decode('[' .. queue .. ']')[1], 'reason', 'unreadable',
    'detail', 'not a message stock workers could restore', 'at', now)
  return not (type(reply) == 'table' and reply.err)
end

local time = redis.call('TIME')
local now = time[1] .. '.' .. string.format('%06d', time[2])
local out = { time[1], time[2], 0 }
local counter, room = tonumber(ARGV[2]), tonumber(ARGV[3])
local hash, index, taken = {}, {}, 0
local bytes, popped = 0, 0

-- Record what was popped, as far as it is not too much; whether more may be.
local function record(raws, number)
  local queue = ARGV[number + 1]
  local tail = ', "", ' .. queue .. ']'
  for at, raw in ipairs(raws) do
    if bytes >= MOST_BYTES then
      -- Back to the end it came from, the one to be served first last.
      for back = #raws, at, -1 do
        redis.call('RPUSH', KEYS[number], raws[back])
      end
      return false
    end
    bytes, popped = bytes + #raw, popped + 1
    if not restorable(raw, queue) and add_dead_letter(raw, queue, now) then
      out[3] = out[3] + 1
    else
      counter = counter + 1
      local field = ARGV[1] .. string.format('%d', counter)
      taken = taken + 1
      hash[2 * taken - 1], hash[2 * taken] = field, '[' .. raw .. tail
      index[2 * taken - 1], index[2 * taken] = now, field
      out[2 * taken + 2], out[2 * taken + 3] = number - 3, raw
    end
  end
  return bytes < MOST_BYTES
end

local function take_from(number)
  repeat
    local most = room - popped
    if most > FIRST then
      most = bytes == 0 and FIRST
        or math.min(most, math.ceil((MOST_BYTES - bytes) * popped / bytes))
    end
    local raws = redis.pcall('RPOP', KEYS[number], most)
    -- false: an empty list; an error: a key of another type, which must not stop the other lists.
    if not raws or raws.err then
      return true
    end
    if not record(raws, number) then
      return false
    end
  until #raws < most or popped >= room
  return popped < room
end

for number = 4, #KEYS do
  if not take_from(number) then
    break
  end
end

if taken > 0 then
  redis.call('HSET', KEYS[1], unpack(hash))
  redis.call('ZADD', KEYS[2], unpack(index))
end
return out
