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
const memory = 0.99;
/** Sweeps over the weights after each step; they start from the last solution. */
const sweepCount = 8;
/** A feature with less weight of evidence than this keeps its cost. */
const minEvidence = 1e-12;
/** Steps before the fit is believed. */
const warmUpSteps = 16;
const minStepMs = 1e-3;

/**
 * Predicts a step's time from its load, fitted to the steps so far by recursive least squares over
 * relative errors.
 *
 * The fit keeps the normal equations `A w = b` of all steps, the past fading, and solves them under
 * `w >= 0` by coordinate descent (Franc, Hlavac and Navara, Sequential coordinate-wise algorithm for
 * the non-negative least squares problem, 2005): more work never predicts less time, and no load,
 * however monotonous, makes it diverge. Where steps no longer show a feature, both sides of its
 * equation fade alike: a server that decodes for an hour still knows what prefill costs.
 */
export class StepTimeModel {
  /** `w`, milliseconds per unit. */
  readonly #weights = new Float64Array(featureCount);
  /** `A`, `[featureCount, featureCount]`. */
  readonly #correlation = new Float64Array(featureCount * featureCount);
  /** `b` */
  readonly #evidence = new Float64Array(featureCount);
  readonly #features = new Float64Array(featureCount);
  #stepCount = 0;

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
    this.#read(load);
    this.#remember(Math.max(minStepMs, stepMs));
    for (let sweep = 0; sweep < sweepCount; sweep++) this.#improve();
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

  /** Adds the features' equation, both sides divided by the time: errors count by their share, and a
   * step that took absurdly long counts for little. */
  #remember(stepMs: number): void {
    for (let i = 0; i < featureCount; i++) {
      const feature = (this.#features[i] as number) / stepMs;
      this.#evidence[i] = (this.#evidence[i] as number) * memory + feature;
      for (let j = 0; j < featureCount; j++) {
        const place = i * featureCount + j;
        const other = (this.#features[j] as number) / stepMs;
        this.#correlation[place] = (this.#correlation[place] as number) * memory + feature * other;
      }
    }
  }

  /** Sets each weight in turn to the best for the others as they are. */
  #improve(): void {
    for (let i = 0; i < featureCount; i++) {
      const own = this.#correlation[i * (featureCount + 1)] as number;
      if (own < minEvidence) continue;
      let rest = this.#evidence[i] as number;
      for (let j = 0; j < featureCount; j++) {
        if (j === i) continue;
        const shared = this.#correlation[i * featureCount + j] as number;
        rest -= shared * (this.#weights[j] as number);
      }
      this.#weights[i] = Math.max(0, rest / own);
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
