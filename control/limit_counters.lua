-- What limits have counted so far; only reads, so that asking costs nothing.
--
-- KEYS[i]  counter i, as contracts.rate_limit_key says
-- ARGV     parts of a window, then for each counter its window in ms
-- returns  for each counter: hits in its window, ms until the oldest of them leaves

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local parts = tonumber(ARGV[1])
local answer = {}

for i = 1, #KEYS do
  local part = math.ceil(tonumber(ARGV[1 + i]) / parts)
  local oldest = math.floor(now / part) - parts
  local used, first, index = 0, nil, 0
  local packed = redis.call('GET', KEYS[i])
  local flat = packed and cmsgpack.unpack(packed) or {}
  for j = 1, #flat, 2 do
    index = index + flat[j]
    if index >= oldest then
      first = first or index
      used = used + flat[j + 1]
    end
  end
  answer[#answer + 1] = used
  answer[#answer + 1] = first and (first + parts + 1) * part - now or 0
end
return answer
