-- traceparent (W3C Trace Context, level 1): a valid one is kept; else a new one begins
-- with the request's own id, so that a trace is found by what the client was told.
local function is_id(text, length)
  return #text == length and not text:find("[^0-9a-f]") and text:find("[1-9a-f]") ~= nil
end

local function is_valid(text)
  local version, trace, parent, flags = text:match("^(%x%x)%-(%x+)%-(%x+)%-(%x%x)$")
  return version == "00" and is_id(trace, 32) and is_id(parent, 16)
    and not flags:find("[^0-9a-f]")
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local given = headers:get("traceparent")
  if given ~= nil and headers:getNumValues("traceparent") == 1 and is_valid(given) then
    return
  end
  -- What belongs to a trace that nobody can follow (section 3.3.1.1).
  headers:remove("tracestate")
  local trace = (headers:get("x-request-id") or ""):gsub("-", "")
  if is_id(trace, 32) then
    headers:replace("traceparent", "00-" .. trace .. "-" .. trace:sub(17) .. "-00")
  else
    headers:remove("traceparent")
  end
end
