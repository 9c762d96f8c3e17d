-- Read entries for a consumer, if the partition is its own. Never blocks. Begins with group_fence.lua.
-- KEYS  order-events group
-- ARGV  partition consumer term redis_group
--       after ('>': what nobody has been given yet; an id: what this consumer was given after it and has not acknowledged)
--       count
-- ->    {'OK', {{id, fields or nil if it is not in the log any more}, …}, id of the youngest entry if there are none}
--       {'NOGROUP'}   {'LOST', owner}
local answer = redis.pcall('XREADGROUP', 'GROUP', redis_group, consumer, 'COUNT', ARGV[6], 'STREAMS', log, ARGV[5])
if answer and answer['err'] then
  if string.find(answer['err'], 'NOGROUP', 1, true) then return {'NOGROUP'} end
  return answer
end
local entries = answer and answer[1][2] or {}
if #entries > 0 then return {'OK', entries} end
local youngest = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
return {'OK', entries, youngest and youngest[1] or '0-0'}
