-- include: store_result.lua
-- Recovery: take claims away from workers that are gone, each back to its list or to the dead letters.
--
-- KEYS[1] unacked   KEYS[2] unacked_index   KEYS[3..] whatever the rows name by position
-- ARGV[1] seconds results are kept, 0 for ever   ARGV[2] how many dead letters are kept, about
-- ARGV[3] seconds a fence lasts
-- ARGV[4..] rows of claims, each; <key> is a position in KEYS, 0 for none:
--   field   score it was read with
--   <key> of its owner's heartbeat: taken only while that is missing; 0: only while the score
--           is unchanged
--   <key> of its owner's fence   'list' or 'dead_letter'   <key> of the target   message
--   <key> of its result   result, '' for none   n
--   n names and values of the dead letter, or <key>s of further lists that get the message
-- Returns one number a row: 1 taken, 0 another worker's by now, -1 its target refuses it
--
-- The message is written before the claim is dropped, and a row that fails stays claimed, so that
-- neither an error of its own nor one of a neighbour loses anything. A failed row that was found by its
-- age is dated now: it is tried again after the visibility timeout, and does not delay others until
-- then. A field is never used for two claims of Crucible's; the tag of a stock worker may be, with
-- another score.

-- On a server whose memory is full this lets all that follows through: a script may write once it
-- has written something that takes no memory, and what ends a claim gives back what its message took.
redis.call('ZREM', KEYS[2], '')

local function still_theirs(field, score, heartbeat)
  if redis.call('HEXISTS', KEYS[1], field) == 0 then
    redis.call('ZREM', KEYS[2], field)
    return false
  end
  if heartbeat > 0 then
    return redis.call('EXISTS', KEYS[heartbeat]) == 0
  end
  return redis.call('ZSCORE', KEYS[2], field) == score
end

local function push(where, raw, first, last)
  -- All are looked at before one is written: a claim that stays must not have gone anywhere.
  for further = first, last do
    local reply = redis.pcall('LLEN', KEYS[tonumber(ARGV[further])])
    if type(reply) == 'table' then
      return reply
    end
  end
  local reply = redis.pcall('RPUSH', where, raw)
  if type(reply) ~= 'table' then
    for further = first, last do
      redis.call('RPUSH', KEYS[tonumber(ARGV[further])], raw)
    end
  end
  return reply
end

local function place(at, names)
  local where, raw = KEYS[tonumber(ARGV[at + 5])], ARGV[at + 6]
  if ARGV[at + 4] == 'list' then
    return push(where, raw, at + 10, at + 9 + names)
  end
  return redis.pcall('XADD', where, 'MAXLEN', '~', ARGV[2], '*', 'raw', raw,
    unpack(ARGV, at + 10, at + 9 + names))
end

local function take(at, names)
  local field, heartbeat, fence = ARGV[at], tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  if not still_theirs(field, ARGV[at + 1], heartbeat) then
    return 0
  end
  local reply = place(at, names)
  if type(reply) == 'table' and reply.err then
    if heartbeat == 0 then
      local time = redis.call('TIME')
      redis.call('ZADD', KEYS[2], 'XX', time[1] .. '.' .. string.format('%06d', time[2]), field)
    end
    return -1
  end
  if ARGV[at + 8] ~= '' then
    store(KEYS[tonumber(ARGV[at + 7])], ARGV[at + 8], ARGV[1])
  end
  if fence > 0 then
    redis.call('SET', KEYS[fence], 1, 'EX', ARGV[3])
  end
  redis.call('HDEL', KEYS[1], field)
  redis.call('ZREM', KEYS[2], field)
  return 1
end

local out, at = {}, 4
while at <= #ARGV do
  local names = tonumber(ARGV[at + 9])
  out[#out + 1] = take(at, names)
  at = at + 10 + names
end
return out
