-- Publish everything that waited for one flush.
--
-- KEYS   step lists in any order, which ARGV names by position; then the keys of idempotency
--        records in their order.
-- ARGV   <number of step lists> <number of limited queues>, for each queue:
--        <limit> <list> <list> <list> <list>
--        then runs to the end: <list> <queue or 0> <ttl ms or 0> <count>, followed
--        without a ttl by <raw> * count: one operation;
--        with one by (<value> <raw>) * count: an operation each, with the next record's key.
-- RETURN {results, depths}. One result an operation: the number of messages pushed, or "=<value>"
--        where the idempotency record was there and holds <value>, or "!<error>" where the server
--        refused this operation. One depth a limited queue: messages waiting before.
--
-- A failure of one operation (a key of another type) must not fail its neighbours, hence pcall.

local record, at = tonumber(ARGV[1]), 3
local limits, depths = {}, {}
for queue = 1, tonumber(ARGV[2]) do
    limits[queue] = tonumber(ARGV[at])
    local depth = 0
    for offset = 1, 4 do
        local length = redis.pcall('LLEN', KEYS[tonumber(ARGV[at + offset])])
        if type(length) == 'number' then depth = depth + length end
    end
    depths[queue] = depth
    at = at + 5
end

local waiting = {}
for queue, depth in ipairs(depths) do waiting[queue] = depth end

-- How many of `count` messages the queue has room for.
local function room(queue, count)
    if queue == 0 then return count end
    return math.max(0, math.min(count, limits[queue] - waiting[queue]))
end

-- Pushes ARGV[first..last]; returns the number pushed or an error text.
local function push(list, queue, first, last)
    for start = first, last, 1000 do
        local reply = redis.pcall('LPUSH', list, unpack(ARGV, start, math.min(start + 999, last)))
        if type(reply) == 'table' and reply.err then return '!' .. reply.err end
    end
    local pushed = last - first + 1
    if queue > 0 then waiting[queue] = waiting[queue] + pushed end
    return pushed
end

-- Pushes ARGV[first + 1] unless `key` is there, and sets `key` to ARGV[first].
local function push_new(list, queue, key, ttl, first)
    local held = redis.pcall('GET', key)
    if type(held) == 'table' then return '!' .. held.err end
    if held then return '=' .. held end
    if room(queue, 1) == 0 then return 0 end
    -- The key first: where it may not be written, nothing may be pushed.
    local set = redis.pcall('SET', key, ARGV[first], 'PX', ttl)
    if set.err then return '!' .. set.err end
    local pushed = push(list, queue, first + 1, first + 1)
    if pushed ~= 1 then redis.call('DEL', key) end
    return pushed
end

local results = {}
while at <= #ARGV do
    local list, queue = KEYS[tonumber(ARGV[at])], tonumber(ARGV[at + 1])
    local ttl, count = ARGV[at + 2], tonumber(ARGV[at + 3])
    at = at + 4
    if ttl == '0' then
        local taken = room(queue, count)
        if taken > 0 then taken = push(list, queue, at, at + taken - 1) end
        results[#results + 1] = taken
        at = at + count
    else
        for first = at, at + 2 * count - 2, 2 do
            record = record + 1
            results[#results + 1] = push_new(list, queue, KEYS[record], ttl, first)
        end
        at = at + 2 * count
    end
end

return {results, depths}
