-- Put dead letters back: their events become pending again, under a name whose entries the group's consumers take over.
-- KEYS  order-events group dead-letters
-- ARGV  group
--       requeued (that name)
--       ids of letters
-- ->    for each letter: 'requeued'
--         'unknown' there is no such letter: perhaps an earlier call put it back
--         'gone' the log does not hold its event any more; the letter stays
--         'no group' nobody would get it; the letter stays
local log, hash, letters = KEYS[1], KEYS[2], KEYS[3]
local group, requeued = ARGV[1], ARGV[2]
local groups = {}
if redis.call('EXISTS', log) == 1 then
  for _, flat in ipairs(redis.call('XINFO', 'GROUPS', log)) do
    for i = 1, #flat, 2 do
      if flat[i] == 'name' then groups[flat[i + 1]] = true end
    end
  end
end
local partitions = redis.call('HGET', hash, 'partitions')

local answer = {}
for i = 3, #ARGV do
  local found = redis.call('XRANGE', letters, ARGV[i], ARGV[i])[1]
  local letter = {}
  for j = 1, found and #found[2] or 0, 2 do letter[found[2][j]] = found[2][j + 1] end
  local name, id, partition = group, letter['entryId'] or '', '1'
  -- Back to the partition that gave it up; a letter cannot name another group.
  for p = 1, tonumber(partitions) or 1 do
    local part = string.format('%s.%.0fof%s', group, p, partitions or '1')
    if letter['group'] == part then name, partition = part, string.format('%.0f', p) end
  end
  if not found then
    answer[#answer + 1] = 'unknown'
  elseif not string.find(id, '^%d+%-%d+$') or #redis.call('XRANGE', log, id, id) == 0 then
    answer[#answer + 1] = 'gone'
  elseif not groups[name] then
    answer[#answer + 1] = 'no group'
  else
    redis.call('XCLAIM', log, name, requeued, 0, id, 'FORCE', 'JUSTID')
    redis.call('HDEL', hash, partition .. '.attempts.' .. id)
    redis.call('XDEL', letters, ARGV[i])
    answer[#answer + 1] = 'requeued'
  end
end
return answer
