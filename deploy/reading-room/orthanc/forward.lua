-- Sends each film that Orthanc stores to `r2gengpt listen`. A draft that comes back is of another class, and stays.
-- A film that could not be sent goes again when the next film comes. What had failed before a restart does not.
local FILMS = {
  ['1.2.840.10008.5.1.4.1.1.1'] = true,      -- Computed Radiography
  ['1.2.840.10008.5.1.4.1.1.1.1'] = true,    -- Digital X-Ray, for presentation
  ['1.2.840.10008.5.1.4.1.1.1.1.1'] = true,  -- Digital X-Ray, for processing
}
local failed = {}

function OnStoredInstance(instanceId, tags, metadata, origin)
  if not FILMS[tags['SOPClassUID']] then
    return
  end
  local again = failed
  failed = {}
  for _, job in ipairs(again) do
    RestApiPost('/jobs/' .. job .. '/resubmit', '')
  end
  RestApiPost('/modalities/r2gengpt/store', DumpJson({Resources = {instanceId}, Asynchronous = true}, true))
end

function OnJobFailure(job)
  table.insert(failed, job)
  print('a film was not sent: job ' .. job)
end
