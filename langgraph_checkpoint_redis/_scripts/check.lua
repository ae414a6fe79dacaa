-- Shows that scripts run, and what the server says about itself.
--
-- KEYS     none
-- Returns  {server, memory, persistence, replication}: the sections of INFO, empty where the server
--          does not tell

local function section(name)
  local text = redis.pcall('INFO', name)
  return type(text) == 'string' and text or ''
end

return {section('server'), section('memory'), section('persistence'), section('replication')}
