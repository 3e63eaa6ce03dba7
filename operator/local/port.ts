import { InvalidArgumentError } from "commander";

/** @throws InvalidArgumentError for anything but a port; 0 asks for a free one */
export function parsePort(text: string): number {
  const port = Number(text);
  if (Number.isInteger(port) && port >= 0 && port <= 65_535 && text !== "") return port;
  throw new InvalidArgumentError(`"${text}" is no port: give a number from 0 to 65535.`);
}
