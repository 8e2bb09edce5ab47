-- Publishes everything that waited for one flush.
--
-- KEYS   step lists and once keys, in any order; ARGV names them by position.
-- ARGV   <number of limited queues>, for each: <limit> <list> <list> <list> <list>
--        then operations to the end: <list> <queue or 0> <once or 0> <ttl ms> <value> <count> <raw>...
--        An operation with a once key has exactly one raw message.
-- RETURN {outcomes, depths}. One outcome an operation: the number of messages pushed, or
--        "=<value>" where the once key was there and holds <value>, or "!<error>" where the
--        server refused this operation. One depth a limited queue: messages waiting before.
--
-- A failure of one operation (a key of another type) must not fail its neighbours, hence pcall.

local at = 2
local limits, depths = {}, {}
for queue = 1, tonumber(ARGV[1]) do
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

-- Pushes ARGV[first..last]; returns the number pushed or an error text.
local function push(list, first, last)
    for start = first, last, 1000 do
        local reply = redis.pcall('LPUSH', list, unpack(ARGV, start, math.min(start + 999, last)))
        if type(reply) == 'table' and reply.err then return '!' .. reply.err end
    end
    return last - first + 1
end

local outcomes = {}
while at <= #ARGV do
    local list, queue = KEYS[tonumber(ARGV[at])], tonumber(ARGV[at + 1])
    local once, count = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 5])
    local first, outcome = at + 6, nil
    if once > 0 then
        local held = redis.pcall('GET', KEYS[once])
        if type(held) == 'table' then
            outcome = '!' .. held.err
        elseif held then
            outcome = '=' .. held
        end
    end
    if not outcome then
        local taken = count
        if queue > 0 then
            taken = math.max(0, math.min(count, limits[queue] - waiting[queue]))
        end
        outcome = taken
        if taken > 0 and once > 0 then
            -- The key first: where it may not be written, nothing may be pushed.
            local set = redis.pcall('SET', KEYS[once], ARGV[at + 4], 'PX', ARGV[at + 3])
            if set.err then outcome = '!' .. set.err end
        end
        if taken > 0 and outcome == taken then
            outcome = push(list, first, first + taken - 1)
            if outcome ~= taken then
                if once > 0 then redis.call('DEL', KEYS[once]) end
            elseif queue > 0 then
                waiting[queue] = waiting[queue] + taken
            end
        end
    end
    outcomes[#outcomes + 1] = outcome
    at = first + count
end

return {outcomes, depths}
