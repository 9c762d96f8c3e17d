-- Remove a consumer group with all that is kept for it: its place in the log, what it has not acknowledged, its letters.
-- KEYS  order-events group group-activity dead-letters
-- ARGV  group
--       forced (1: also while somebody serves it, and with its dead letters)
--       served_ms (who has asked Redis for entries within this time serves a group whose members do not sign up)
--       requeued (the name under which entries are put back, which is no consumer)
-- ->    {'OK', groups of Redis that were destroyed, entries that were pending, letters that were deleted}
--       {'SERVED', by whom}   {'LETTERS', n}
local log, hash, activity, letters = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local group, forced, served_ms = ARGV[1], ARGV[2] == '1', tonumber(ARGV[3])
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)

local known, flat_hash = {}, redis.call('HGETALL', hash)
for i = 1, #flat_hash, 2 do known[flat_hash[i]] = flat_hash[i + 1] end
local partitions = tonumber(known['partitions'])
local names = {}
if partitions and partitions > 1 then
  for p = 1, partitions do names[string.format('%s.%.0fof%.0f', group, p, partitions)] = true end
else
  names[group] = true
end
local there, pending, server = {}, 0, nil
if redis.call('EXISTS', log) == 1 then
  for _, flat in ipairs(redis.call('XINFO', 'GROUPS', log)) do
    local found = {}
    for i = 1, #flat, 2 do found[flat[i]] = flat[i + 1] end
    if names[found['name']] then
      there[#there + 1] = found['name']
      pending = pending + found['pending']
    end
  end
end
for field, value in pairs(known) do
  local member = string.match(field, '^member%.(.+)$')
  if member and tonumber(value) > now then server = member end
end
if not partitions then
  for _, name in ipairs(there) do
    for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', log, name)) do
      local consumer = {}
      for i = 1, #flat, 2 do consumer[flat[i]] = flat[i + 1] end
      if consumer['idle'] < served_ms and consumer['name'] ~= ARGV[4] then server = consumer['name'] end
    end
  end
end
local count = redis.call('XLEN', letters)
redis.call('HLEN', activity)  -- of the wrong type, it ends the script here, before the first write
if server and not forced then return {'SERVED', server} end
if count > 0 and not forced then return {'LETTERS', count} end

for _, name in ipairs(there) do redis.call('XGROUP', 'DESTROY', log, name) end
for name in pairs(names) do redis.call('HDEL', activity, name) end
redis.call('UNLINK', hash, letters)
return {'OK', #there, pending, count}
