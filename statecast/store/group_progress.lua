-- Before the scripts that acknowledge: how far a partition has come, so that what was trimmed unseen is noticed.
local function younger(a, b)
  local a1, a2 = string.match(a, '^(%d+)-(%d+)$')
  local b1, b2 = string.match(b, '^(%d+)-(%d+)$')
  a1, a2, b1, b2 = tonumber(a1), tonumber(a2), tonumber(b1), tonumber(b2)
  return a1 > b1 or (a1 == b1 and a2 > b2)
end
local function advance(hash, partition, seq, epoch, id)
  local known = redis.call('HGET', hash, partition .. '.entryId')
  if not known or younger(id, known) then
    redis.call('HSET', hash, partition .. '.eventSeq', seq, partition .. '.epoch', epoch, partition .. '.entryId', id)
  end
end
