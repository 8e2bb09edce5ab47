-- Publish everything that waited for one flush.
--
-- KEYS   step lists, rates and sets of what is in flight in any order, which ARGV names by
--        position; then the keys of idempotency records in their order.
-- ARGV   <number of keys before the records> <number of limited queues> <of rates> <of sets>
--        <of quotas>; for each queue: <limit> <list> <list> <list> <list>
--        for each rate: <key> <interval us> <capacity us>; for each set: <key> <ttl s>
--        for each quota: <set or 0> <its limit> <number of rates> <rate> * number
--        then runs to the end: <list or 0> <queue or 0> <ttl ms or 0> <count> <quota or 0>, followed
--        without a ttl by <raw> * count: one operation, without a quota;
--        with one by <value> * count <raw> * count: an operation each, with the next record's key.
--        Without a list records are kept and quotas charged, and nothing is pushed.
-- RETURN {results, depths, levels, counts}. One result an operation: the number of messages pushed,
--        or "=<value>" where the idempotency record was there and holds <value>, or "~rate" or
--        "~in flight" where the quota refuses it, or "!<error>" where the server refused this
--        operation. One depth a limited queue: messages waiting before. One level a rate: what is
--        used of it in microseconds, and one count a set, both after.
--
-- A failure of one operation (a key of another type) must not fail its neighbours, hence pcall.
-- Nothing is written before the first operation: after a write that takes no memory, the server
-- would accept pushes although its memory is full.

local record, at = tonumber(ARGV[1]), 6
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

-- Microseconds since 2023-11-14, the server's clock: small enough for a double to have fractions.
local EPOCH_S = 1700000000
local now = 0
if ARGV[5] ~= '0' then
    local time = redis.call('TIME')
    now = (tonumber(time[1]) - EPOCH_S) * 1000000 + tonumber(time[2])
end

-- `level`: how far ahead of now the moment is from which on nothing of the rate is used. Never more
-- than its capacity, also where the server's clock was put back.
local rates, sets, quotas = {}, {}, {}
for index = 1, tonumber(ARGV[3]) do
    local key, capacity = KEYS[tonumber(ARGV[at])], tonumber(ARGV[at + 2])
    local free_from = tonumber(redis.pcall('GET', key)) or now
    local level = math.min(capacity, math.max(0, free_from - now))
    rates[index] = {
        key = key, interval = tonumber(ARGV[at + 1]), capacity = capacity, level = level
    }
    at = at + 3
end
for index = 1, tonumber(ARGV[4]) do
    local key = KEYS[tonumber(ARGV[at])]
    local count = redis.pcall('ZCARD', key)
    if type(count) ~= 'number' then count = 0 end
    local ttl = tonumber(ARGV[at + 1])
    local forgotten_at = EPOCH_S + math.floor(now / 1000000) + ttl
    sets[index] = { key = key, ttl = ttl, count = count, forgotten_at = forgotten_at }
    at = at + 2
end
for index = 1, tonumber(ARGV[5]) do
    local quota = { set = sets[tonumber(ARGV[at])], limit = tonumber(ARGV[at + 1]) }
    for place = at + 3, at + 2 + tonumber(ARGV[at + 2]) do
        quota[#quota + 1] = rates[tonumber(ARGV[place])]
    end
    quotas[index] = quota
    at = at + 3 + #quota
end

-- Why a quota does not allow one more message; nil where it does.
local function refusal(quota)
    for _, rate in ipairs(quota) do
        -- The sum of many intervals is off by a little.
        if rate.level + rate.interval > rate.capacity + 0.01 then return '~rate' end
    end
    if quota.set and quota.set.count >= quota.limit then return '~in flight' end
end

-- Counts a message that was pushed, with its record.
local function charge(quota, key)
    for _, rate in ipairs(quota) do
        rate.level = rate.level + rate.interval
        rate.charged = true
    end
    local set = quota.set
    if set then
        set.count = set.count + 1
        set[#set + 1] = set.forgotten_at
        set[#set + 1] = key
    end
end

-- How many of `count` messages the queue has room for.
local function room(queue, count)
    if queue == 0 then return count end
    return math.max(0, math.min(count, limits[queue] - waiting[queue]))
end

-- Takes back the charges of messages that were not pushed after all: the last ones, all of it.
local function refund(quota, count)
    for _, rate in ipairs(quota) do
        rate.level = math.max(0, rate.level - count * rate.interval)
    end
    local set = quota.set
    if set then
        set.count = set.count - count
        for _ = 1, 2 * count do set[#set] = nil end
    end
end

-- Pushes messages[first..last]; returns the number pushed or an error text.
local function push(list, messages, first, last)
    if not list then return last - first + 1 end
    for start = first, last, 1000 do
        local ends = math.min(start + 999, last)
        local reply = redis.pcall('LPUSH', list, unpack(messages, start, ends))
        if type(reply) == 'table' and reply.err then return '!' .. reply.err end
    end
    return last - first + 1
end

-- Sets the record of a message that is new and may be pushed; else returns the message's result.
-- Its record comes first: where it may not be written, nothing may be pushed.
local function refused(queue, key, ttl, quota, value)
    local why = room(queue, 1) == 0 and 0 or quota and refusal(quota)
    if not why then
        local set = redis.pcall('SET', key, value, 'PX', ttl, 'NX')
        if set and not set.err then return nil end
        why = '!' .. (set and set.err or 'ERR a record is there and cannot be read')
    end
    local held = redis.pcall('GET', key)
    if type(held) == 'table' then return '!' .. held.err end
    return held and '=' .. held or why
end

local results = {}

-- Pushes ARGV[first + count..] with the records whose values are ARGV[first..]; all messages that
-- are new go in one command.
local function push_new(list, queue, ttl, quota, first, count)
    local keys, messages, before = {}, {}, #results
    for place = first, first + count - 1 do
        record = record + 1
        local key = KEYS[record]
        local result = refused(queue, key, ttl, quota, ARGV[place])
        if not result then
            keys[#keys + 1], messages[#messages + 1] = key, ARGV[place + count]
            if queue > 0 then waiting[queue] = waiting[queue] + 1 end
            if quota then charge(quota, key) end
            result = 1
        end
        results[#results + 1] = result
    end
    if #keys == 0 then return end
    local pushed = push(list, messages, 1, #messages)
    if pushed == #keys then return end
    if queue > 0 then waiting[queue] = waiting[queue] - #keys end
    if quota then refund(quota, #keys) end
    local unset = {}
    for _, key in ipairs(keys) do
        redis.call('DEL', key)
        unset[key] = true
    end
    -- One that repeats another of these found its record, which is gone now.
    for place = 1, count do
        if unset[KEYS[record - count + place]] then results[before + place] = pushed end
    end
end

while at <= #ARGV do
    local list, queue = KEYS[tonumber(ARGV[at])], tonumber(ARGV[at + 1])
    local ttl, count = ARGV[at + 2], tonumber(ARGV[at + 3])
    local quota = quotas[tonumber(ARGV[at + 4])]
    at = at + 5
    if ttl == '0' then
        local taken = room(queue, count)
        if taken > 0 then
            local pushed = push(list, ARGV, at, at + taken - 1)
            if pushed == taken and queue > 0 then waiting[queue] = waiting[queue] + taken end
            taken = pushed
        end
        results[#results + 1] = taken
        at = at + count
    else
        push_new(list, queue, ttl, quota, at, count)
        at = at + 2 * count
    end
end

local levels, counts = {}, {}
for index, rate in ipairs(rates) do
    if rate.charged then
        local free_from = string.format('%.3f', now + rate.level)
        redis.pcall('SET', rate.key, free_from, 'PX', math.ceil(rate.level / 1000) + 1)
    end
    levels[index] = math.floor(rate.level)
end
for index, set in ipairs(sets) do
    for first = 1, #set, 1000 do
        redis.pcall('ZADD', set.key, unpack(set, first, math.min(first + 999, #set)))
    end
    if #set > 0 then
        redis.pcall('ZREMRANGEBYSCORE', set.key, '-inf', EPOCH_S + math.floor(now / 1000000))
        redis.pcall('EXPIRE', set.key, set.ttl)
    end
    counts[index] = set.count
end

return {results, depths, levels, counts}
