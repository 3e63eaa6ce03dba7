/** What a step has to do, as far as its time depends on it. */
export interface StepLoad {
  prefillTokens: number;
  decodeRows: number;
  /** Tokens that the decode rows attend to, summed. */
  decodeContext: number;
  /** Tokens that the prefill tokens attend to, summed. */
  prefillContext: number;
}

/** Units that bring the features of ordinary steps near 1, so that the fit is well conditioned. */
const units = [1, 256, 64, 65_536, 262_144] as const;
const featureCount = units.length;
/** Share of the past that one step leaves: a memory of about a hundred steps. */
const forgetting = 0.99;
const minUncertainty = 1e-9;
/** Steps before the fit is believed. */
const warmUpSteps = 16;
/** A step that took longer than this many times its prediction is counted as this many. */
const outlierFactor = 4;
const initialVariance = 1e4;

/**
 * Predicts a step's time from its load, fitted to the steps so far by recursive least squares.
 *
 * The past is forgotten only in the direction of each step's features (Kulhavy and Karny, Tracking
 * of slowly varying parameters by directional forgetting, 1984): a server that decodes for an hour
 * still knows what prefill costs. Coefficients stay at or above zero: more work never predicts less
 * time.
 */
export class StepTimeModel {
  readonly #weights = new Float64Array(featureCount);
  /** `[featureCount, featureCount]` P, the uncertainty of the weights. */
  readonly #covariance = new Float64Array(featureCount * featureCount);
  /** x */
  readonly #features = new Float64Array(featureCount);
  /** P x */
  readonly #direction = new Float64Array(featureCount);
  #stepCount = 0;

  constructor() {
    for (let i = 0; i < featureCount; i++) {
      this.#covariance[i * (featureCount + 1)] = initialVariance;
    }
  }

  /** False until enough steps were seen to believe a prediction. */
  get isReady(): boolean {
    return this.#stepCount >= warmUpSteps;
  }

  predictMs(load: StepLoad): number {
    this.#read(load);
    let sum = 0;
    for (let i = 0; i < featureCount; i++) {
      sum += (this.#weights[i] as number) * (this.#features[i] as number);
    }
    return sum;
  }

  observe(load: StepLoad, stepMs: number): void {
    const predictedMs = this.predictMs(load);
    const seenMs = this.isReady ? Math.min(stepMs, outlierFactor * predictedMs + 1) : stepMs;
    const uncertainty = this.#updateDirection();
    const gain = (seenMs - predictedMs) / (1 + uncertainty);
    for (let i = 0; i < featureCount; i++) {
      const moved = (this.#weights[i] as number) + gain * (this.#direction[i] as number);
      this.#weights[i] = Math.max(0, moved);
    }
    this.#updateCovariance(uncertainty);
    this.#stepCount += 1;
  }

  /**
   * The most of `wanted` prefill tokens from position `start` on that the step can take within
   * `targetMs`, on top of `load`. May be 0.
   */
  prefillWithin(load: StepLoad, start: number, wanted: number, targetMs: number): number {
    let fits = 0;
    let tooMany = wanted + 1;
    while (tooMany - fits > 1) {
      const count = (fits + tooMany) >>> 1;
      const tried = { ...load };
      addPrefill(tried, start, count);
      if (this.predictMs(tried) <= targetMs) fits = count;
      else tooMany = count;
    }
    return fits;
  }

  #read(load: StepLoad): void {
    this.#features[0] = 1;
    this.#features[1] = load.prefillTokens / units[1];
    this.#features[2] = load.decodeRows / units[2];
    this.#features[3] = load.decodeContext / units[3];
    this.#features[4] = load.prefillContext / units[4];
  }

  /** Sets the direction P x and returns the uncertainty x' P x. */
  #updateDirection(): number {
    let uncertainty = 0;
    for (let i = 0; i < featureCount; i++) {
      let sum = 0;
      for (let j = 0; j < featureCount; j++) {
        sum += (this.#covariance[i * featureCount + j] as number) * (this.#features[j] as number);
      }
      this.#direction[i] = sum;
      uncertainty += sum * (this.#features[i] as number);
    }
    return uncertainty;
  }

  /** Narrows P along the direction, or widens it where the past weighs more than it may. */
  #updateCovariance(uncertainty: number): void {
    if (uncertainty < minUncertainty) return;
    const narrowing =
      (forgetting * (1 + uncertainty) - 1) / (uncertainty * forgetting * (1 + uncertainty));
    for (let i = 0; i < featureCount; i++) {
      for (let j = 0; j < featureCount; j++) {
        const place = i * featureCount + j;
        const outer = (this.#direction[i] as number) * (this.#direction[j] as number);
        this.#covariance[place] = (this.#covariance[place] as number) - narrowing * outer;
      }
    }
  }
}

export function emptyLoad(): StepLoad {
  return { prefillTokens: 0, decodeRows: 0, decodeContext: 0, prefillContext: 0 };
}

export function clearLoad(load: StepLoad): void {
  load.prefillTokens = 0;
  load.decodeRows = 0;
  load.decodeContext = 0;
  load.prefillContext = 0;
}

/** Adds one generated token at `position`. */
export function addDecode(load: StepLoad, position: number): void {
  load.decodeRows += 1;
  load.decodeContext += position + 1;
}

/** Adds a chunk of `count` prompt tokens from position `start` on. */
export function addPrefill(load: StepLoad, start: number, count: number): void {
  load.prefillTokens += count;
  load.prefillContext += count * start + (count * (count + 1)) / 2;
}
