-- Storing a result; included in front of the scripts that store one.
--
-- A terminal result, once stored, stays (celery's own backend keeps SUCCESS only). The key is the
-- channel as well. Stock writes the status first, so the first bytes show it; else it is decoded.
-- A REVOKED stored by a process that saw no start of the task has null children, from stock and from
-- us: the task may run all the same, and then its own result counts. And where the task is cancelled
-- before its start was stored, REVOKED is stored before the worker that runs it adds what it left.

local function decoded(meta)
  local ok, value = pcall(cjson.decode, meta)
  return ok and type(value) == 'table' and value or {}
end

local function has_left(meta)
  local left = type(meta.result) == 'table' and meta.result.left
  return left and left ~= cjson.null
end

local function adds_left(stored, meta)
  if has_left(stored) or not string.find(meta, '^{"status": ?"REVOKED"') then
    return false
  end
  return has_left(decoded(meta))
end

local function is_terminal(key, meta)
  local head = redis.pcall('GETRANGE', key, 0, 30)
  if type(head) == 'table' or head == '' then
    return false
  end
  local status = string.match(head, '^{"status": ?"([%u%l_-]+)"')
  if not status or status == 'REVOKED' then
    local stored = decoded(redis.call('GET', key))
    status = status or stored.status
    if status == 'REVOKED' then
      return not (stored.children == cjson.null or adds_left(stored, meta))
    end
  end
  return status == 'SUCCESS' or status == 'FAILURE'
end

local function store(key, meta, ttl)
  if is_terminal(key, meta) then
    return 0
  end
  if tonumber(ttl) > 0 then
    redis.call('SET', key, meta, 'EX', ttl)
  else
    redis.call('SET', key, meta)
  end
  redis.call('PUBLISH', key, meta)
  return 1
end
