const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
const killedExitCode = 130;

interface Stoppable {
  drain(): Promise<void>;
  kill(): void;
}

/**
 * Waits for the first Ctrl-C (or SIGTERM, or the terminal's end) and drains; a second one kills.
 *
 * @param onDrain told once the drain has begun
 * @returns the exit code
 */
export async function untilSignalled(up: Stoppable, onDrain: () => void): Promise<number> {
  const asked = Promise.withResolvers<void>();
  let count = 0;
  const onSignal = () => {
    count++;
    if (count === 1) asked.resolve();
    else up.kill();
  };
  for (const signal of signals) process.on(signal, onSignal);
  await asked.promise;
  const drained = up.drain();
  onDrain();
  await drained;
  for (const signal of signals) process.off(signal, onSignal);
  return count > 1 ? killedExitCode : 0;
}
