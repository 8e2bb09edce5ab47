-- Storing a result; included in front of the scripts that store one.
--
-- A terminal result, once stored, stays (celery's own backend keeps SUCCESS only). The key is the
-- channel as well. Stock writes the status first, so the first bytes show it; else it is decoded.
-- A REVOKED stored by a process that saw no start of the task has null children, from stock and from
-- us: the task may run all the same, and then its own result counts.

local function is_terminal(key)
  local head = redis.pcall('GETRANGE', key, 0, 30)
  if type(head) == 'table' or head == '' then
    return false
  end
  local status = string.match(head, '^{"status": ?"([%u%l_-]+)"')
  if not status or status == 'REVOKED' then
    local ok, meta = pcall(cjson.decode, redis.call('GET', key))
    local readable = ok and type(meta) == 'table'
    status = status or (readable and meta.status)
    if status == 'REVOKED' then
      return not (readable and meta.children == cjson.null)
    end
  end
  return status == 'SUCCESS' or status == 'FAILURE'
end

local function store(key, meta, ttl)
  if is_terminal(key) then
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
