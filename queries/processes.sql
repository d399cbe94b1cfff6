-- name: SeeProcess :exec
-- SeeProcess says that a process is alive.
INSERT INTO processes (process, host, workers) VALUES (@process, @host, @workers)
ON CONFLICT (process) DO UPDATE SET seen_at = now();

-- name: DeleteProcess :exec
DELETE FROM processes WHERE process = @process;

-- name: DeleteGoneProcesses :exec
-- DeleteGoneProcesses gives up those that have not been seen for a minute.
DELETE FROM processes WHERE seen_at < now() - interval '1 minute';

-- name: SumWorkers :one
-- SumWorkers counts the job slots of all processes seen in the last five seconds.
SELECT coalesce(sum(workers), 0)::bigint FROM processes WHERE seen_at > now() - interval '5 seconds';
