local ready, turn, answered, wrong, started = {}, 0, 0, 0, nil
local before, after

local function lines(path)
  local all = {}
  for line in io.lines(path) do all[#all + 1] = line end
  return all
end

function init()
  local paths, tokens = lines(paths_file), lines(tokens_file)
  math.randomseed(os.time())
  if body_bytes > 0 then wrk.method, wrk.body = "POST", string.rep("x", body_bytes) end
  for i = 1, math.max(#paths, #tokens) do
    local headers = {}
    for name, value in pairs(wrk.headers) do headers[name] = value end
    if #tokens > 0 then headers["Authorization"] = "Bearer " .. tokens[(i - 1) % #tokens + 1] end
    if keys > 0 then headers["X-Key"] = "@" end
    ready[i] = wrk.format(nil, paths[(i - 1) % #paths + 1], headers)
  end
  if keys > 0 then before, after = ready[1]:match("^(.*X%-Key: )@(.*)$") end
end

local function pick(count)
  if order == "random" then return math.random(count) end
  turn = turn % count + 1
  return turn
end

function request()
  if keys > 0 then return before .. pick(keys) .. after end
  return ready[pick(#ready)]
end

if pause_ms > 0 then
  function delay() return math.random(0, 2 * pause_ms) end
end

if order == "once" then
  -- wrk itself would sleep until its time is over, and count that.
  local ffi = require("ffi")
  ffi.cdef("typedef struct { long seconds, nanos; } moment; int clock_gettime(int, moment *);")
  local function now()
    local moment = ffi.new("moment")
    ffi.C.clock_gettime(1, moment)
    return tonumber(moment.seconds) + tonumber(moment.nanos) / 1e9
  end
  function response(status)
    started = started or now()
    answered = answered + 1
    if status ~= expected then wrong = wrong + 1 end
    if answered == math.max(keys, #ready) then
      print(string.format("answered %d wrong %d seconds %.6f", answered, wrong, now() - started))
      io.stdout:flush()
      os.exit(0)
    end
  end
end

function done(summary, latency, requests)
  print(string.format("latency_us %.1f %.1f %.1f",
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
