-- What the youngest entries of the log are about, without all their fields.
-- KEYS  order-events
-- ARGV  max (an id, '(' before it where it is exclusive, or '+')  count
-- ->    id of the oldest entry looked at, or ''; then, youngest first, eventId symbol eventId symbol …
local found = {''}
for _, entry in ipairs(redis.call('XREVRANGE', KEYS[1], ARGV[1], '-', 'COUNT', ARGV[2])) do
  local event_id, symbol, fields = '', '', entry[2]
  for i = 1, #fields, 2 do
    if fields[i] == 'eventId' then event_id = fields[i + 1] elseif fields[i] == 'symbol' then symbol = fields[i + 1] end
  end
  found[1] = entry[1]
  found[#found + 1] = event_id
  found[#found + 1] = symbol
end
return found
