-- Acknowledge entries. Not fenced: an entry that was handled stays handled, also when the lease is lost.
-- Begins with group_progress.lua.
-- KEYS  order-events group
-- ARGV  redis_group partition
--       eventSeq, epoch and id of the youngest of them, or empty if they are not known
--       ids
-- ->    how many were pending
local log, hash = KEYS[1], KEYS[2]
local redis_group, partition = ARGV[1], ARGV[2]
local up = table.unpack or unpack

local joined = redis.call('HEXISTS', hash, 'partitions') == 1
local acknowledged = redis.call('XACK', log, redis_group, up(ARGV, 6))
if joined then  -- else Redis lost the group, and part of a hash would be taken for it
  local attempts = {}
  for i = 6, #ARGV do attempts[#attempts + 1] = partition .. '.attempts.' .. ARGV[i] end
  redis.call('HDEL', hash, up(attempts))
  if ARGV[5] ~= '' then advance(hash, partition, ARGV[3], ARGV[4], ARGV[5]) end
end
return acknowledged
