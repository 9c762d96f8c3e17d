-- Renew a member and its partitions, take what is free, and return what it holds.
-- KEYS  group group-activity
-- ARGV  consumer lease_ms partitions
--       new_terms: numbers of partitions, with blanks between, to be kept under a new term
--       for each partition: name of its group in Redis
-- ->    {'OK', surplus, partition, term, term before, …}
--         surplus: how many partitions this member has too many, so that every member has its share
--         term: differs for every time that a partition changed hands. A member that knows "term before" has had it since
--       {'GONE'} nobody has joined the group, or Redis lost it
--       {'PARTITIONS', n} the group has another number of them
local hash, activity = KEYS[1], KEYS[2]
local consumer, lease_ms, partitions = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local function text(number) return string.format('%.0f', number) end

local known, flat = {}, redis.call('HGETALL', hash)
for i = 1, #flat, 2 do known[flat[i]] = flat[i + 1] end
if not known['partitions'] then return {'GONE'} end
if known['partitions'] ~= ARGV[3] then return {'PARTITIONS', known['partitions']} end
redis.call('HLEN', activity)  -- of the wrong type, it ends the script here, before the first write

-- Who is there, and what each of them has.
local has, gone = {[consumer] = 0}, {}
for field, value in pairs(known) do
  local name = string.match(field, '^member%.(.+)$')
  if name and name ~= consumer then
    if tonumber(value) > now then has[name] = 0 else gone[#gone + 1] = field end
  end
end
local new_terms, owner = {}, {}
for number in string.gmatch(ARGV[4], '%d+') do new_terms[tonumber(number)] = true end
for p = 1, partitions do
  local name = known[text(p) .. '.owner']
  if name and (name == consumer or tonumber(known[text(p) .. '.untilMs'] or '0') > now) then
    owner[p] = name
    has[name] = (has[name] or 0) + 1
  end
end

-- A free partition goes to the first that asks of those that have least. A member has too many if it would have more
-- than its share when those that have most got the remainder: so nothing moves without need.
local members, least = {}, partitions
for name, count in pairs(has) do
  members[#members + 1] = name
  if name ~= consumer then least = math.min(least, count) end
end
for p = 1, partitions do
  if not owner[p] and has[consumer] <= least then
    owner[p] = consumer
    has[consumer] = has[consumer] + 1
    new_terms[p] = true
  end
end
table.sort(members, function(a, b)
  if has[a] ~= has[b] then return has[a] > has[b] end
  return a < b
end)
local surplus = 0
for rank, name in ipairs(members) do
  local fair = math.floor(partitions / #members) + (rank <= partitions % #members and 1 or 0)
  if name == consumer then surplus = math.max(0, has[name] - fair) end
end

for _, field in ipairs(gone) do redis.call('HDEL', hash, field) end
local until_ms = text(now + lease_ms)
redis.call('HSET', hash, 'member.' .. consumer, until_ms)
local answer = {'OK', surplus}
for p = 1, partitions do
  if owner[p] == consumer then
    local before = known[text(p) .. '.term'] or '0'
    local term = before
    -- By the clock (µs) as well as by counting: a number lost in a fail-over or a flush is not handed out twice.
    if new_terms[p] then term = text(math.max(tonumber(before) + 1, t[1] * 1000000 + t[2])) end
    redis.call('HSET', hash, text(p) .. '.owner', consumer, text(p) .. '.untilMs', until_ms, text(p) .. '.term', term)
    redis.call('HSET', activity, ARGV[4 + p], text(now))
    answer[#answer + 1] = p
    answer[#answer + 1] = term
    answer[#answer + 1] = before
  end
end
return answer
