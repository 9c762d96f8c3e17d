-- Serve the shared REST answer, or say whose turn it is to get a new one.
-- KEYS  status refresh refresh-lock refresh-requests refresh-news
-- ARGV  token max_age_ms not_before_ms ('' where the age counts) contract lock_ms
--       credentials (which they are; '' without any) credentials_pause_ms
--       ask (1: a living publisher may be asked) heartbeat_ms request_gap_ms requests_length
-- ->    {'ANSWER', now_ms, taken_at_ms, seq, epoch, state, account, balances, positions, orders}
--       {'TURN', now_ms, taken_at_ms, spent, spent_time_ms} the lock is the caller's
--       {'WAIT', now_ms, taken_at_ms, for_ms, last_result, holder} until then at the most; without a holder, the publisher was asked
--       {'REFUSED', now_ms, taken_at_ms, reason, retry_at_ms} nobody asks the venue before
--       {'ALONE', now_ms, taken_at_ms, credentials_reason, heartbeat_at_ms, state, state_reason} nobody can ask it
--       taken_at_ms is that of the youngest answer, '' for none; other texts are '' for none, too
local token, contract, credentials = ARGV[1], ARGV[4], ARGV[6]
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local function text(number) return string.format('%.0f', number) end

local known = redis.call('HMGET', KEYS[2], 'takenAtMs', 'contract', 'failedAtMs', 'retryAtMs', 'reason', 'spent',
  'spentTimeMs', 'refused.' .. credentials)
-- What was written before the clock was set back lies in the future, and its age is not known.
local taken = known[2] == contract and tonumber(known[1]) or nil
if taken and taken > now then taken = nil end
local taken_text = taken and text(taken) or ''
local since = tonumber(ARGV[3]) or now - tonumber(ARGV[2])
if taken and taken >= since then
  local answer = redis.call('HMGET', KEYS[2], 'seq', 'epoch', 'state', 'account', 'balances', 'positions', 'orders')
  return {'ANSWER', text(now), taken_text, (table.unpack or unpack)(answer)}
end

local holder = redis.call('GET', KEYS[3])
local result = redis.call('XREVRANGE', KEYS[5], '+', '-', 'COUNT', 1)[1]
local last_result = result and result[1] or '0-0'
if holder and holder ~= token then
  return {'WAIT', text(now), taken_text, text(redis.call('PTTL', KEYS[3])), last_result, holder}
end

local failed, retry = tonumber(known[3]), tonumber(known[4])
if failed and failed <= now and now < retry then return {'REFUSED', text(now), taken_text, known[5], known[4]} end

local refused_at, refused = string.match(known[8] or '', '^(%d+) (.*)$')
refused_at = tonumber(refused_at)
if refused_at and (refused_at > now or now >= refused_at + tonumber(ARGV[7])) then refused_at, refused = nil, nil end
if credentials ~= '' and not refused_at then
  redis.call('SET', KEYS[3], token, 'PX', ARGV[5])
  return {'TURN', text(now), taken_text, known[6] or '', known[7] or '0'}
end

local status = redis.call('HMGET', KEYS[1], 'heartbeatAtMs', 'state', 'reason')
local heartbeat, state = tonumber(status[1]), status[2] or ''
local lives = heartbeat and heartbeat <= now and now - heartbeat <= tonumber(ARGV[9]) and state ~= 'stopped'
  and state ~= 'refused'
if not (lives and ARGV[8] == '1') then
  return {'ALONE', text(now), taken_text, refused or '', status[1] or '', state, status[3] or ''}
end
local request = redis.call('XREVRANGE', KEYS[4], '+', '-', 'COUNT', 1)[1]
local requested = request and tonumber(string.match(request[1], '^%d+'))
if not requested or requested > now or now - requested >= tonumber(ARGV[10]) then
  redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[11], '*', 'by', token)
end
return {'WAIT', text(now), taken_text, ARGV[10], last_result, ''}
