-- Take over what other consumers of a partition's group were given and have not acknowledged: the holder of the
-- partition's lease knows that they are gone. Names with nothing pending are deleted. Begins with group_fence.lua.
-- KEYS  order-events group
-- ARGV  partition consumer term redis_group
--       count (entries in one call)
--       requeued (the consumer whose entries were put back: their attempts start from 0)
--       reported (what stood in <partition>.lost, once it was reported; else empty)
-- ->    {'OK', claimed, 1 if there may be more else 0, {ids that are not in the log any more: acknowledge them},
--        eventSeq, epoch, entryId of the last one acknowledged or nil, what is lost and was not reported, or '' }
--       {'NOGROUP'}   {'LOST', owner}
local others = redis.pcall('XINFO', 'CONSUMERS', log, redis_group)
if others['err'] then
  local err = others['err']
  if string.find(err, 'NOGROUP', 1, true) or string.find(err, 'no such key', 1, true) then return {'NOGROUP'} end
  return others
end

local lost = redis.call('HGET', hash, partition .. '.lost') or ''
if lost ~= '' and lost == ARGV[7] then
  redis.call('HDEL', hash, partition .. '.lost')
  lost = ''
end
local left, claimed, gone = tonumber(ARGV[5]), 0, {}
for _, flat in ipairs(others) do
  local other = {}
  for i = 1, #flat, 2 do other[flat[i]] = flat[i + 1] end
  local name = other['name']
  if name ~= consumer and other['pending'] == 0 then
    redis.call('XGROUP', 'DELCONSUMER', log, redis_group, name)
  elseif name ~= consumer and left > 0 then
    local ids = {}
    for _, pending in ipairs(redis.call('XPENDING', log, redis_group, '-', '+', text(left), name)) do
      left = left - 1
      -- What is gone stays where it is until it was reported: Redis 7 would forget it here.
      if #redis.call('XRANGE', log, pending[1], pending[1]) > 0 then
        ids[#ids + 1] = pending[1]
      else
        gone[#gone + 1] = pending[1]
      end
    end
    if #ids > 0 then
      claimed = claimed + #ids
      ids[#ids + 1] = 'JUSTID'
      redis.call('XCLAIM', log, redis_group, consumer, 0, up(ids))
      if name == ARGV[6] then
        for i = 1, #ids - 1 do redis.call('HSET', hash, partition .. '.attempts.' .. ids[i], '-1') end
      end
      if #ids - 1 == other['pending'] then redis.call('XGROUP', 'DELCONSUMER', log, redis_group, name) end
    end
  end
end
local progress = redis.call('HMGET', hash, partition .. '.eventSeq', partition .. '.epoch', partition .. '.entryId')
return {'OK', claimed, left > 0 and 0 or 1, gone, progress[1], progress[2], progress[3], lost}
