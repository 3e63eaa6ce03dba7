/** Why a command of this folder cannot do what it was asked; the person reads it as it is. */
export class UpError extends Error {
  override readonly name = "UpError";
}
