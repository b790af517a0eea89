-- OpenAI counts a stream's tokens only when asked to (`stream_options.include_usage`).
-- Asks for it in every stream, and hides the extra event from a client that did not ask:
-- the readers of tokens stand nearer to the provider and have seen it by then.

local KEPT = "hubgate.include_usage"
-- So much of an event is held back until it is whole; more is passed on as it comes.
local MOST = 1048576

-- The members of the object that `text` is: name -> {first, last} of the value. Nil when
-- it is none. Escaped names are not unescaped: what hides behind one stays unknown, and
-- what is put at the end of an object wins over it.
local function members(text)
  local at = text:match("^%s*{()")
  if at == nil then return nil end
  local found, depth, name, first = {}, 1, nil, nil
  while true do
    local place = text:find('["{}%[%],]', at)
    if place == nil then return nil end
    local char = text:sub(place, place)
    at = place + 1
    if char == '"' then
      local close = at
      while true do
        close = text:find('["\\]', close)
        if close == nil then return nil end
        if text:byte(close) == 34 then break end
        close = close + 2
      end
      local value = depth == 1 and text:match("^%s*:%s*()", close + 1)
      if value and name == nil then
        name, first = text:sub(place + 1, close - 1), value
        at = value
      else
        at = close + 1
      end
    elseif char == "{" or char == "[" then
      depth = depth + 1
    else
      if depth == 1 and name ~= nil then
        local last = text:sub(first, place - 1):match("^.*%S()")
        if last == nil then return nil end
        found[name] = {first, first + last - 2}
        name = nil
      end
      if char ~= "," then depth = depth - 1 end
      if depth == 0 then
        return text:find("%S", at) == nil and found or nil
      end
    end
  end
end

local function value_of(text, member)
  return member ~= nil and text:sub(member[1], member[2]) or nil
end

-- `text` with one member more, or another value for one that it has.
local function with(text, found, name, value)
  local member = found[name]
  if member ~= nil then
    return text:sub(1, member[1] - 1) .. value .. text:sub(member[2] + 1)
  end
  local before = text:match("^(.*)}%s*$")
  local comma = next(found) ~= nil and "," or ""
  return before .. comma .. '"' .. name .. '":' .. value .. "}"
end

-- The request that asks for usage; nil when it asks already, or is none for a stream.
local function asking(text)
  local found = members(text)
  if found == nil or value_of(text, found["stream"]) ~= "true" then return nil end
  local options = value_of(text, found["stream_options"]) or "null"
  local given = members(options)
  if given == nil then
    return with(text, found, "stream_options", '{"include_usage":true}')
  end
  if value_of(options, given["include_usage"]) == "true" then return nil end
  return with(text, found, "stream_options", with(options, given, "include_usage", "true"))
end

function envoy_on_request(handle)
  local headers = handle:headers()
  if headers:get(":method") ~= "POST"
    or not (headers:get("content-type") or ""):lower():find("json", 1, true) then
    return
  end
  local body = handle:body()
  if body == nil then return end
  local asked = asking(body:getBytes(0, body:length()))
  if asked == nil then return end
  body:setBytes(asked)
  handle:headers():replace("content-length", tostring(#asked)) -- the old object is void
  handle:streamInfo():dynamicMetadata():set(KEPT, "hide", true)
end

-- The event that is only there because it was asked for: no choices, but usage.
local function is_extra(event)
  local data = event:match("^data:%s*(.*)$") or event:match("\ndata:%s*(.*)$")
  local found = data ~= nil and members(data) or nil
  return found ~= nil
    and (value_of(data, found["choices"]) or ""):find("^%[%s*%]$") ~= nil
    and (value_of(data, found["usage"]) or ""):find("^{") ~= nil
end

function envoy_on_response(handle)
  local kept = handle:streamInfo():dynamicMetadata():get(KEPT)
  if kept == nil or kept["hide"] ~= true then return end
  local headers = handle:headers()
  if not (headers:get("content-type") or ""):lower():find("text/event-stream", 1, true) then
    return
  end
  headers:remove("content-length")
  -- Whole events pass at once; the beginning of one waits for its end.
  local begun = ""
  for chunk in handle:bodyChunks() do
    local text, out, at = begun .. chunk:getBytes(0, chunk:length()), {}, 1
    while true do
      local first, last = text:find("\r?\n\r?\n", at)
      if first == nil then break end
      local event = text:sub(at, first - 1)
      if not is_extra(event) then out[#out + 1] = text:sub(at, last) end
      at = last + 1
    end
    begun = text:sub(at)
    if #begun > MOST then
      out[#out + 1], begun = begun, ""
    end
    chunk:setBytes(table.concat(out))
  end
end
