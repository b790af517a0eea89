-- How a counter is read, as redis_keys.py describes it: what begins each script that
-- reads counters (`counters.py`).

local call, byte = redis.call, string.byte
local pack, parsed = struct.pack, struct.unpack

-- Doubles hold every integer that Lua can count with.
local HEAD = '<BBddd'
-- By the bytes of an entry's hits.
local ENTRY = {[1] = '<BB', [2] = '<I2B', [4] = '<I4B', [8] = '<dB'}

-- {hits, delta, ...} as entries, with as many bytes as the most hits need.
local function entries_of(flat)
  local width, entries = 1, {}
  for i = 1, #flat, 2 do
    while flat[i] >= 256 ^ width do width = 2 * width end
  end
  for i = 1, #flat, 2 do
    entries[#entries + 1] = pack(ENTRY[width], flat[i], flat[i + 1])
  end
  return width, table.concat(entries)
end

-- What earlier versions stored: msgpack {index, hits, index delta, hits, ...}, oldest
-- first. There are such counters for one window after an upgrade.
local function converted(stored)
  local flat = cmsgpack.unpack(stored)
  local head, last = table.remove(flat, 1), table.remove(flat)
  local used, span = last, 0
  for i = 1, #flat, 2 do
    used, span = used + flat[i], span + flat[i + 1]
  end
  local width, entries = entries_of(flat)
  return width, span, head, used, last, 1, entries
end

-- A counter, where the window reaches from part `oldest` to part `index`: hits in the
-- window, index of the oldest part there, of the newest (-1: none), hits in that; and
-- the entries: their width, a text, and where they begin.
local function load(key, oldest, index)
  local stored = call('GET', key)
  if stored then
    local width, span, head, used, last, at
    if ENTRY[byte(stored)] then
      width, span, head, used, last, at = parsed(HEAD, stored)
    else
      width, span, head, used, last, at, stored = converted(stored)
    end
    local newest = head + span
    if newest >= oldest then
      while head < oldest do
        local hits, delta
        hits, delta, at = parsed(ENTRY[width], stored, at)
        used, head = used - hits, head + delta
      end
      return used, head, newest, last, width, stored, at
    end
  end
  return 0, index, -1, 0, 1, '', 1
end
