-- include: store_result.lua
-- Settle any number of claims together with all they cause beyond their results: callbacks, next
-- steps of chains, bodies of chords. Each claim all or nothing.
--
-- KEYS[1] unacked   KEYS[2] unacked_index   KEYS[3..] whatever the operations name by position
-- ARGV[1] seconds results are kept, 0 for ever
-- ARGV[2..] operations, each a word and its arguments; <key> is a position in KEYS:
--   claim <field>          what follows, up to the next claim, happens only if the claim is ours,
--                          and drops it
--   free                   what follows belongs to no claim and happens in any case
--   guard <c> <s> <token> <seconds>
--                          what follows, up to unguard, happens only while <token> may send the body
--                          of the chord whose dispatch mark is <c> and size is <s>
--   unguard
--   store <key> <result>   store and publish a result
--   push <key> <message>   into a list
--   set <key> <value> <seconds>
--   del <key>
--   incr <key> <seconds>
--   dead_letter <key> <limit> <n> <name> <value> ...   n values into the stream of dead letters
-- Returns {claims that were ours, for each guard in order 1 if its writes happened, else 0 ...}
--
-- The claim makes this safe to repeat: a second call finds it gone and does nothing. Only the owner of
-- a claim may settle it, as a new owner will cause the same effects.

local width = { claim = 1, free = 0, guard = 4, unguard = 0, store = 2, push = 2, set = 3, del = 1,
  incr = 2 }

local function next_at(at)
  if ARGV[at] == 'dead_letter' then
    return at + 4 + tonumber(ARGV[at + 3])
  end
  return at + 1 + width[ARGV[at]]
end

-- A key of another type must fail here: later a part of the work would be done.
local scan = 2
while scan <= #ARGV do
  if ARGV[scan] == 'push' then
    redis.call('LLEN', KEYS[tonumber(ARGV[scan + 1])])
  elseif ARGV[scan] == 'dead_letter' then
    redis.call('XLEN', KEYS[tonumber(ARGV[scan + 1])])
  end
  scan = next_at(scan)
end

-- On a server whose memory is full this lets all that follows through: a script may write once it
-- has written something that takes no memory, and what ends a claim gives back what its message took.
-- What a running task sends belongs to no claim and is refused.
if ARGV[2] == 'claim' then
  redis.call('ZREM', KEYS[2], '')
end

local function owns(mark, size, token, seconds)
  local held = redis.call('GET', mark)
  if held == token then
    redis.call('EXPIRE', mark, seconds)
    return 1
  end
  -- The mark ran out meanwhile, and no other worker has taken it.
  if not held and redis.call('EXISTS', size) == 1 then
    redis.call('SET', mark, token, 'EX', seconds)
    return 1
  end
  return 0
end

local ours, out = 0, { 0 }
local held, claimed, allowed = nil, true, true

local function drop()
  if held and claimed then
    redis.call('HDEL', KEYS[1], held)
    redis.call('ZREM', KEYS[2], held)
    ours = ours + 1
  end
  held, claimed, allowed = nil, true, true
end

local act = {
  store = function(at, key)
    store(key, ARGV[at + 2], ARGV[1])
  end,
  push = function(at, key)
    redis.call('LPUSH', key, ARGV[at + 2])
  end,
  set = function(at, key)
    if tonumber(ARGV[at + 3]) > 0 then
      redis.call('SET', key, ARGV[at + 2], 'EX', ARGV[at + 3])
    else
      redis.call('SET', key, ARGV[at + 2])
    end
  end,
  del = function(_, key)
    redis.call('DEL', key)
  end,
  incr = function(at, key)
    redis.call('INCR', key)
    if tonumber(ARGV[at + 2]) > 0 then
      redis.call('EXPIRE', key, ARGV[at + 2])
    end
  end,
  dead_letter = function(at, key)
    redis.call('XADD', key, 'MAXLEN', '~', ARGV[at + 2], '*',
      unpack(ARGV, at + 4, at + 3 + tonumber(ARGV[at + 3])))
  end,
}

local at = 2
while at <= #ARGV do
  local word = ARGV[at]
  if word == 'claim' then
    drop()
    held = ARGV[at + 1]
    claimed = redis.call('HEXISTS', KEYS[1], held) == 1
    if not claimed then
      redis.call('ZREM', KEYS[2], held)
    end
  elseif word == 'free' then
    drop()
  elseif word == 'guard' then
    allowed = claimed and owns(KEYS[tonumber(ARGV[at + 1])], KEYS[tonumber(ARGV[at + 2])],
      ARGV[at + 3], ARGV[at + 4]) == 1
    out[#out + 1] = allowed and 1 or 0
  elseif word == 'unguard' then
    allowed = true
  elseif claimed and allowed then
    act[word](at, KEYS[tonumber(ARGV[at + 1])])
  end
  at = next_at(at)
end
drop()
out[1] = ours
return out
