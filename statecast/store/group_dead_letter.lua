-- Give an entry up: copy it to the dead letters, with the reason, and acknowledge it.
-- Begins with group_fence.lua and group_progress.lua.
-- KEYS  order-events group dead-letters
-- ARGV  partition consumer term redis_group
--       entry_id attempts reason
-- ->    {'OK', id of the letter}
--       {'DONE'} it is in the log and not pending any more: an earlier call did it, or it was acknowledged
--       {'GONE'} it is not in the log any more; nothing was written
--       {'NOGROUP'}   {'LOST', owner}
local letters, id = KEYS[3], ARGV[5]
local pending = redis.pcall('XPENDING', log, redis_group, id, id, 1)
if pending['err'] then
  if string.find(pending['err'], 'NOGROUP', 1, true) then return {'NOGROUP'} end
  return pending
end
local entry = redis.call('XRANGE', log, id, id)[1]
if not entry then return {'GONE'} end
if #pending == 0 then return {'DONE'} end
local letter = entry[2]
local added = {
  'group', redis_group, 'entryId', id, 'attempts', ARGV[6], 'reason', ARGV[7], 'consumer', consumer,
  'deadAtMs', text(now),
}
for _, value in ipairs(added) do letter[#letter + 1] = value end
local letter_id = redis.call('XADD', letters, '*', up(letter))
redis.call('XACK', log, redis_group, id)
redis.call('HDEL', hash, partition .. '.attempts.' .. id)
local event = {}
for i = 1, #letter, 2 do event[letter[i]] = letter[i + 1] end
if tonumber(event['eventSeq']) then advance(hash, partition, event['eventSeq'], event['epoch'] or '0', id) end
return {'OK', letter_id}
