import { policyCases } from "./autoscaling-policy-rules-testing.ts";
import { describeRules } from "./rule-testing.ts";

describeRules("AutoscalingPolicy", "autoscalingpolicy.yaml", policyCases);
