-- Count one part of a chord, and find out whether it was the last one missing.
--
-- KEYS[1] .j parts   KEYS[2] .t extra size   KEYS[3] .s size   KEYS[4] .d tasks counted
-- KEYS[5] the group itself: its structure, where it is saved
-- KEYS[6] .c dispatch mark: who sends the body
-- KEYS[7] unacked, where claims lie on this server (may be absent)
-- ARGV[1] task id    ARGV[2] the part as JSON   ARGV[3] its start, the same for each run of the task
-- ARGV[4] position, '+inf' for none     ARGV[5] seconds the keys live, 0 for ever
-- ARGV[6] token of who counts           ARGV[7] seconds within which the body must be sent
-- ARGV[8] field of the claim under which the task ended (with KEYS[7])
-- Returns {'lost'}                      the claim is another worker's by now, and so is the part
--         {'done'}                      the body was sent before
--         {'waiting'}                   others are missing
--         {'taken', milliseconds}       complete, and another worker is sending the body; the time
--                                       until that worker's mark runs out
--         {'claimed', group or '', size}             complete with so many parts, and the body is
--                                                    ours to send; they are read a page at a time
--
-- The rules are those of celery 5.7 (backends/redis.py), so that both count in the same keys: a part
-- counts once for its task and position. Celery up to 5.6 does not write .d; a part such a worker
-- left for the same task at the same position is recognised by its start.
--
-- Only the owner of the claim counts. What a later owner counts replaces what an earlier one counted,
-- who cannot have settled the message, so that a part always equals its task's result.

local parts, extra, size, counted, group, mark, unacked = unpack(KEYS)

if unacked and redis.call('HEXISTS', unacked, ARGV[8]) == 0 then
  return { 'lost' }
end
if redis.call('GET', mark) == 'done' then
  return { 'done' }
end

-- On a server whose memory is full this lets all that follows through: a script may write once it
-- has written something that takes no memory. A claim whose part is not counted cannot be settled.
redis.call('ZREM', parts, '')

local function is_ours(part)
  return part and string.sub(part, 1, #ARGV[3]) == ARGV[3]
end

-- The server's own order of members; Lua's < would go by the locale.
local function precedes(one, other)
  for at = 1, math.min(#one, #other) do
    local mine, its = string.byte(one, at), string.byte(other, at)
    if mine ~= its then
      return mine < its
    end
  end
  return #one < #other
end

local function left_before()
  local position = ARGV[4]
  local there = redis.call('ZRANGEBYSCORE', parts, position, position, 'LIMIT', 0, 2)
  if #there < 2 then
    return is_ours(there[1]) and there[1]
  end
  -- Many have this position, as all have where there are none: search, do not walk.
  local score = position == '+inf' and math.huge or tonumber(position)
  local low, high = 0, redis.call('ZCARD', parts)
  while low < high do
    local middle = math.floor((low + high) / 2)
    local part, its = unpack(redis.call('ZRANGE', parts, middle, middle, 'WITHSCORES'))
    its = its == 'inf' and math.huge or tonumber(its)
    if its < score or (its == score and precedes(part, ARGV[3])) then
      low = middle + 1
    else
      high = middle
    end
  end
  local found = redis.call('ZRANGE', parts, low, low)[1]
  return is_ours(found) and found
end

local before = left_before()
local new = redis.call('SADD', counted, ARGV[1] .. ':' .. ARGV[4]) == 1
if before and before ~= ARGV[2] then
  redis.call('ZREM', parts, before)
end
if before or new then
  redis.call('ZADD', parts, ARGV[4], ARGV[2])
end
if tonumber(ARGV[5]) > 0 then
  for _, key in ipairs({ parts, extra, size, counted, group }) do
    redis.call('EXPIRE', key, ARGV[5])
  end
end

local total, count = redis.call('GET', size), redis.call('ZCARD', parts)
if not total
  or count ~= tonumber(total) + tonumber(redis.call('GET', extra) or 0) then
  return { 'waiting' }
end
local held = redis.call('GET', mark)
if held and held ~= ARGV[6] then
  return { 'taken', redis.call('PTTL', mark) }
end
redis.call('SET', mark, ARGV[6], 'EX', ARGV[7])
return { 'claimed', redis.call('GET', group) or '', count }
