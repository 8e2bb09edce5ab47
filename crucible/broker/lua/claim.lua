-- Claim up to n messages: pop them from the lists, in their order, and record each in unacked.
--
-- KEYS[1] unacked            KEYS[2] unacked_index       KEYS[3] dead letters
-- KEYS[4..] step lists, in the order of service
-- ARGV[1] start of the field names      ARGV[2] number of the last field used
-- ARGV[3] n                             ARGV[4] how many dead letters are kept, about
-- ARGV[5] n while the server's memory is full
-- ARGV[6..] name of each list's queue as a JSON string, one a list
-- Returns {server seconds, microseconds, dead letters made, 1 if the server's memory is full else 0,
--   list number, raw, list number, raw ...}
--
-- Once the messages taken have MOST_BYTES no more are: a reply too large for a slow link to bring in
-- time would leave claims that no worker knows of.
--
-- A stock sweep removes what it cannot restore, so only an object whose headers and delivery_info
-- can take kombu's `redelivered` enters `unacked`; the rest becomes a dead letter in the same step.

local MOST_BYTES = 1048576
-- Messages popped before their size is known; what is too much goes back.
local FIRST = 100

-- A key of another type, and a server that takes no writes, must fail here: after a pop it would be
-- too late. The ZADD changes nothing, and takes memory by its kind. Once its memory is full a server
-- refuses it; the pop and what follows it are let through.
redis.call('HLEN', KEYS[1])
redis.call('ZCARD', KEYS[2])
local refusal = redis.pcall('ZADD', KEYS[2], 'XX', 0, '')
local full = type(refusal) == 'table' and string.find(refusal.err, 'OOM', 1, true) ~= nil
if type(refusal) == 'table' and not full then
  return refusal
end

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
local out = { time[1], time[2], 0, full and 1 or 0 }
local counter, room = tonumber(ARGV[2]), tonumber(full and ARGV[5] or ARGV[3])
local hash, index, taken = {}, {}, 0
local bytes, popped = 0, 0

-- Record what was popped, as far as it is not too much; whether more may be.
local function record(raws, number)
  local queue = ARGV[number + 2]
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
      out[2 * taken + 3], out[2 * taken + 4] = number - 3, raw
    end
  end
  return bytes < MOST_BYTES
end

local failure

-- Whether the next list is to be looked at.
local function take_from(number)
  repeat
    local most = room - popped
    if most > FIRST then
      most = bytes == 0 and FIRST
        or math.min(most, math.ceil((MOST_BYTES - bytes) * popped / bytes))
    end
    local raws = redis.pcall('RPOP', KEYS[number], most)
    if not raws then
      return true
    end
    if raws.err then
      -- A key of another type must not stop the other lists; any other error is the server's.
      if not string.find(raws.err, 'WRONGTYPE', 1, true) then
        failure = raws
      end
      return not failure
    end
    if not record(raws, number) then
      return false
    end
  until #raws < most or popped >= room
  return popped < room
end

for number = 4, #KEYS do
  if room <= 0 or not take_from(number) then
    break
  end
end

if taken > 0 then
  local written = redis.pcall('HSET', KEYS[1], unpack(hash))
  if type(written) == 'table' then
    -- A right that is missing is found out only here. The one to be served first goes back last.
    for back = taken, 1, -1 do
      redis.call('RPUSH', KEYS[out[2 * back + 3] + 3], out[2 * back + 4])
    end
    return written
  end
  redis.call('ZADD', KEYS[2], unpack(index))
elseif failure and out[3] == 0 then
  return failure
end
return out
