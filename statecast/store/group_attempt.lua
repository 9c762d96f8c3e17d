-- Count that an entry is handed out once more, before it is. Begins with group_fence.lua.
-- KEYS  order-events group
-- ARGV  partition consumer term redis_group
--       entry_id
--       token (of this count: asked again under the same token, it is not counted again)
-- ->    {'OK', how often it was handed out before}
--       {'DONE'} it is in the log and not pending: it was acknowledged, or its group will be given it again
--       {'GONE'} it is neither pending nor in the log: Redis lost it, so a consumer that still has it has the only copy
--       {'NOGROUP'}   {'LOST', owner}
local id, token = ARGV[5], ARGV[6]
local pending = redis.pcall('XPENDING', log, redis_group, id, id, 1)
if pending['err'] then
  if string.find(pending['err'], 'NOGROUP', 1, true) then return {'NOGROUP'} end
  return pending
end
if #pending > 0 then
  local field = partition .. '.attempts.' .. id
  local count, counted = string.match(redis.call('HGET', hash, field) or '0', '^(-?%d+) ?(.*)$')
  count = tonumber(count)
  if counted ~= token then
    count = count + 1
    redis.call('HSET', hash, field, text(count) .. ' ' .. token)
  end
  return {'OK', count}
end
if #redis.call('XRANGE', log, id, id) > 0 then return {'DONE'} end
return {'GONE'}
