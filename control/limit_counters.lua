-- What limits have counted so far; only reads, so that asking costs nothing. Before it
-- stands runtime/contracts/counters.lua, whose names it uses.
--
-- KEYS[i]  counter i, as redis_keys.py describes it
-- ARGV     parts of a window, then for each counter its window in ms
-- returns  for each counter: hits in its window, ms until the oldest of them leaves

local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local parts = tonumber(ARGV[1])
local answer = {}

for i = 1, #KEYS do
  local part = math.ceil(tonumber(ARGV[1 + i]) / parts)
  local index = math.floor(now / part)
  local used, first, newest = load(KEYS[i], index - parts, index)
  answer[#answer + 1] = used
  answer[#answer + 1] = newest >= 0 and (first + parts + 1) * part - now or 0
end
return answer
