-- The registry: a hash of "service/instance" -> {address, ttl_ms, expires_ms, removed}.
-- KEYS[1] the hash; ARGV[1] what to do; times are the server's own.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function live(text)
  if not text then return nil end
  local one = cjson.decode(text)
  if one.expires_ms <= now then return nil end
  return one
end

if ARGV[1] == 'register' then
  local one = {address = ARGV[3], ttl_ms = tonumber(ARGV[4])}
  one.expires_ms = now + one.ttl_ms
  redis.call('HSET', KEYS[1], ARGV[2], cjson.encode(one))
  return 1
end

if ARGV[1] == 'remove' then
  local one = live(redis.call('HGET', KEYS[1], ARGV[2]))
  if not one or one.removed then return 0 end
  -- Kept for a while, so that every control sees that it was on purpose.
  one.removed, one.expires_ms = true, now + tonumber(ARGV[3])
  redis.call('HSET', KEYS[1], ARGV[2], cjson.encode(one))
  return 1
end

local all = redis.call('HGETALL', KEYS[1])
local found = {}
for place = 1, #all, 2 do
  local one = live(all[place + 1])
  if one then
    local left = one.removed and -1 or one.expires_ms - now
    found[#found + 1] = {all[place], one.address, one.ttl_ms, left}
  else
    redis.call('HDEL', KEYS[1], all[place])
  end
end
return found
