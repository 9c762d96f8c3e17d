-- Give partitions up at once, and on request the membership; take the name away where nothing is pending under it.
-- KEYS  order-events group
-- ARGV  consumer leaves (1: it is no member any more)
--       number of partitions; for each: its number, the name of its group in Redis
--       partition, entry id … of what was delivered to this consumer and never given out: it counts as never delivered
-- ->    how many partitions were given up
local log, hash, consumer = KEYS[1], KEYS[2], ARGV[1]
local given_up, held = 0, {}
local last_name = 3 + 2 * tonumber(ARGV[3])
for i = 4, last_name, 2 do
  local p, name = ARGV[i], ARGV[i + 1]
  if redis.call('HGET', hash, p .. '.owner') == consumer then
    held[p] = true
    given_up = given_up + 1
    redis.call('HDEL', hash, p .. '.owner', p .. '.untilMs')
  end
  local members = redis.pcall('XINFO', 'CONSUMERS', log, name)
  if not members['err'] then
    for _, flat in ipairs(members) do
      local member = {}
      for k = 1, #flat, 2 do member[flat[k]] = flat[k + 1] end
      if member['name'] == consumer and member['pending'] == 0 then
        redis.call('XGROUP', 'DELCONSUMER', log, name, consumer)
      end
    end
  end
end
for i = last_name + 1, #ARGV, 2 do
  if held[ARGV[i]] then redis.call('HSET', hash, ARGV[i] .. '.attempts.' .. ARGV[i + 1], '-1') end
end
if ARGV[2] == '1' then redis.call('HDEL', hash, 'member.' .. consumer) end
return given_up
