import { Socket } from "node:net";

/**
 * Ends this process, and every process that it started, once whoever started it is gone.
 *
 * The parent holds the other end of the pipe `fd`; the kernel closes it even after `kill -9`. A
 * replica of `quire up` leads a process group of its own, so that killing the group leaves nothing.
 */
export function exitWithParent(fd: number): void {
  const pipe = new Socket({ fd, readable: true, writable: false });
  pipe.on("close", killGroup);
  // An error closes the pipe too, and what ends the process is the close.
  pipe.on("error", () => undefined);
  pipe.resume();
  pipe.unref();
}

function killGroup(): void {
  try {
    process.kill(-process.pid, "SIGKILL");
  } catch (error) {
    // Not the leader of a group: only this process is ours to end.
    process.exit((error as NodeJS.ErrnoException).code === "ESRCH" ? 1 : 2);
  }
}
