-- Remove order events that are older than the retention, but none that a live group has not acknowledged.
-- KEYS  lease status order-events group-activity
-- ARGV  token epoch retention_ms expiry_ms keep (the youngest entries, whatever their age) most (entries in one call)
-- ->    {'OK', removed, lagging, expired}
--         lagging:  {group, id, age_ms, pending} … live groups that have not acknowledged `id`, older than the retention
--         expired: {group, unserved_ms} … groups nobody has served for expiry_ms, which have not acknowledged everything
--       {'LEASE', holder} this publisher may not write (any more)
-- A group is live while somebody serves it: a consumer that says so in group-activity, or one that asks Redis for
-- entries. A group that nobody was seen to serve is given expiry_ms from when it was first seen.
local token, epoch, retention, expiry = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local keep, most = tonumber(ARGV[5]), tonumber(ARGV[6])
local log, activity = KEYS[3], KEYS[4]
local function text(number) return string.format('%.0f', number) end

local holder = redis.call('GET', KEYS[1])
if holder ~= token then return {'LEASE', holder or ''} end
local known = redis.call('HGET', KEYS[2], 'epoch')
if known ~= epoch then return {'LEASE', 'epoch ' .. (known or '')} end

local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local oldest_kept = text(math.max(0, now - retention)) .. '-0'

-- Ids as text, for a number here has 53 bits and each half of an id 64.
local function parts(id) return id:match('^(%d+)-(%d+)$') end
local function below(a, b)
  local a1, a2 = parts(a)
  local b1, b2 = parts(b)
  if a1 ~= b1 then
    if #a1 ~= #b1 then return #a1 < #b1 end
    return a1 < b1
  end
  if #a2 ~= #b2 then return #a2 < #b2 end
  return a2 < b2
end
local function fields(flat)
  local map = {}
  for i = 1, #flat, 2 do map[flat[i]] = flat[i + 1] end
  return map
end

local first = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1]
if not first then return {'OK', 0, {}, {}} end
local served = fields(redis.call('HGETALL', activity))
local bound, lagging, expired = oldest_kept, {}, {}
local unseen, gone = {}, {}
for name, at in pairs(served) do
  if now - (tonumber(at) or 0) > expiry then gone[name] = true end
end
for _, flat in ipairs(redis.call('XINFO', 'GROUPS', log)) do
  local group = fields(flat)
  local name, delivered = group['name'], group['last-delivered-id']
  gone[name] = nil
  local at = tonumber(served[name])
  for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', log, name)) do
    at = math.max(at or 0, now - fields(consumer)['idle'])
  end
  -- A time to come is one of a clock that was set back since: it would hold the log until then.
  if not at or at > now then
    at = now
    unseen[name] = now
  end

  -- What the group needs first: the oldest that was delivered and is still in the log (a group cannot be kept waiting
  -- for what is gone), else the first that was not delivered.
  local pending = redis.call('XPENDING', log, name, first[1], '+', 1)[1]
  local oldest = pending and pending[1]
  if not oldest or below(delivered, oldest) then
    local undelivered = redis.call('XRANGE', log, '(' .. delivered, '+', 'COUNT', 1)[1]
    oldest = undelivered and undelivered[1] or oldest
  end
  if oldest and now - at > expiry then
    expired[#expired + 1] = {name, text(now - at)}
  elseif oldest and below(oldest, oldest_kept) then
    lagging[#lagging + 1] = {name, oldest, text(now - tonumber((parts(oldest)))), group['pending']}
    if below(oldest, bound) then bound = oldest end
  end
end

-- By whole nodes of the stream ('~'), which are freed at once and can be limited: up to a node more stays than must.
-- A limit of 0 would be none. Before all that needs memory, for a server that has none left allows this.
local removed, limit = 0, math.min(most, redis.call('XLEN', log) - keep)
if limit > 0 then removed = redis.call('XTRIM', log, 'MINID', '~', bound, 'LIMIT', text(limit)) end
for name in pairs(gone) do redis.call('HDEL', activity, name) end
for name, at in pairs(unseen) do redis.call('HSET', activity, name, text(at)) end
return {'OK', removed, lagging, expired}
