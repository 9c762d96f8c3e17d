-- Make sure that a consumer group exists: its groups in Redis, one for each partition, and what its members share.
-- KEYS  order-events group group-activity status
-- ARGV  partitions
--       start (id after which a new group begins, or $)
--       least_seq (eventSeq of the first event that is wanted, or empty)
--       existed (1: this member knows that the group existed, so that a missing one was lost and is not new)
--       for each partition: name of its group in Redis; last eventSeq, epoch and entry id that this member knows, or
--       empty
-- ->    {'OK', contract version or '', 1 if Redis had lost something else 0}
--       {'PARTITIONS', n} the group has another number of them
--       {'BEYOND', eventSeq} least_seq is beyond what comes next after that event, and the group is new
-- A group that was lost starts from the oldest entry, never with the newest: what came between is not skipped.
-- What was lost stands in <partition>.lost until the owner of the partition has reported it.
local log, hash, activity = KEYS[1], KEYS[2], KEYS[3]
local partitions, least_seq = tonumber(ARGV[1]), tonumber(ARGV[3])
local existed = ARGV[4] == '1'
local known = redis.call('HGET', hash, 'partitions')
if known and known ~= ARGV[1] then return {'PARTITIONS', known} end
local status = redis.call('HMGET', KEYS[4], 'contract', 'eventSeq', 'epoch')
redis.call('HLEN', activity)  -- of the wrong type, it ends the script here, before the first write
local delivered = {}
if redis.call('EXISTS', log) == 1 then
  for _, flat in ipairs(redis.call('XINFO', 'GROUPS', log)) do
    local group = {}
    for i = 1, #flat, 2 do group[flat[i]] = flat[i + 1] end
    delivered[group['name']] = group['last-delivered-id']
  end
end

local t = redis.call('TIME')
local now = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000))
local function field_of(entry, name)
  for i = 1, #entry[2], 2 do
    if entry[2][i] == name then return entry[2][i + 1] end
  end
end
local function first_after(id)
  if id == '$' then return nil end
  return redis.call('XRANGE', log, '(' .. id, '+', 'COUNT', 1)[1]
end

-- Events with lower numbers would come before one that is beyond the next; or Redis has lost data, and it never comes.
if least_seq and not known and not existed then
  local last = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
  local youngest = math.max(tonumber(status[2]) or 0, last and tonumber(field_of(last, 'eventSeq')) or 0)
  if least_seq > youngest + 1 then return {'BEYOND', string.format('%.0f', youngest)} end
end

-- What was written since the start was looked up, and is before the one that is wanted.
local wanted_after = ARGV[2]
if least_seq then
  for _, entry in ipairs(redis.call('XRANGE', log, '(' .. wanted_after, '+', 'COUNT', 1000)) do
    if (tonumber(field_of(entry, 'eventSeq')) or least_seq) >= least_seq then break end
    wanted_after = entry[1]
  end
end

-- A group may begin at a time to come. How many events there will be before it is not known yet. The place of an entry
-- that is there is no such time, though its millisecond is not over, or the clock has stepped back since.
local function to_come(id)
  local ms = string.match(id, '^(%d+)')
  if ms == nil or tonumber(ms) < tonumber(now) then return false end
  local last = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
  return first_after(id) == nil and not (last and last[1] == id)
end
local function begins_at_a_time(id) return string.find(id, '-18446744073709551615', 1, true) ~= nil end

-- The last event before what is read first: progress to begin with.
local function baseline(id)
  local entry = first_after(id)
  local seq = entry and tonumber(field_of(entry, 'eventSeq'))
  if seq then
    return math.min(seq, least_seq or seq) - 1, field_of(entry, 'epoch') or '0'
  end
  if status[2] then return tonumber(status[2]), status[3] or '0' end
end

local function remember(partition, seq, epoch, id)
  if seq then
    redis.call('HSET', hash, partition .. '.eventSeq', string.format('%.0f', seq), partition .. '.epoch', epoch,
      partition .. '.entryId', id)
  end
end

local lost = 0
for partition = 1, partitions do
  local at = 5 + 4 * (partition - 1)
  local name, seq, epoch, id = ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2], ARGV[at + 3]
  local has_progress = redis.call('HEXISTS', hash, partition .. '.eventSeq') == 1
  if not delivered[name] then
    local was_lost = known or existed
    local start = was_lost and '0-0' or wanted_after
    redis.call('XGROUP', 'CREATE', log, name, start, 'MKSTREAM')
    redis.call('HSET', activity, name, now)
    if was_lost then
      redis.call('HSET', hash, partition .. '.lost', 'group ' .. now)
      lost = 1
    end
    if not has_progress and seq then
      remember(partition, seq, epoch, id)
    elseif not has_progress and not to_come(start) then
      local base, base_epoch = baseline(start)
      remember(partition, base, base_epoch, start == '$' and '0-0' or start)
    end
  elseif not has_progress and seq then
    remember(partition, seq, epoch, id)
  elseif not has_progress then
    -- Made by hand, or its hash was deleted. The entry that it was given last says it, if it is still there.
    local entry = redis.call('XRANGE', log, delivered[name], delivered[name])[1]
    if entry then
      remember(partition, tonumber(field_of(entry, 'eventSeq')), field_of(entry, 'epoch') or '0', entry[1])
    elseif not to_come(delivered[name]) then
      local base, base_epoch = baseline(delivered[name])
      remember(partition, base, base_epoch, delivered[name])
      if delivered[name] ~= '0-0' and not begins_at_a_time(delivered[name]) then
        redis.call('HSET', hash, partition .. '.lost', 'progress ' .. now)
        lost = 1
      end
    end
  end
end
redis.call('HSET', hash, 'partitions', ARGV[1])
return {'OK', status[1] or '', lost}
