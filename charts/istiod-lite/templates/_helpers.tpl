{{- define "istiod.registry" -}}
{{ .Values.hub | default .Values.global.hub | required "global.hub (or hub) must be set: the registry and path where the images are, such as registry.example.com/mesh" }}
{{- end -}}

{{- define "istiod.tag" -}}
{{ .Values.tag | default .Values.global.tag | default .Chart.AppVersion }}
{{- end -}}

{{- define "istiod.image" -}}
{{- if contains "/" .Values.image -}}
{{ .Values.image }}
{{- else -}}
{{ include "istiod.registry" . }}/{{ .Values.image }}:{{ include "istiod.tag" . }}
{{- end -}}
{{- end -}}

{{- define "istiod.waypoint-image" -}}
{{- if contains "/" .Values.waypointImage -}}
{{ .Values.waypointImage }}
{{- else -}}
{{ include "istiod.registry" . }}/{{ .Values.waypointImage }}:{{ include "istiod.tag" . }}
{{- end -}}
{{- end -}}

{{- define "istiod.labels" -}}
app: istiod
istio.io/rev: default
app.kubernetes.io/name: istiod
app.kubernetes.io/part-of: istio
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: istiod-lite-{{ .Chart.Version }}
{{- end -}}

{{- define "istiod.profile" -}}
{{ .Values.profile | default .Values.global.profile }}
{{- end -}}

{{- /* What users' dashboards read of the mesh, and under it what the user says. */ -}}
{{- define "istiod.mesh" -}}
{{- $root := .Values.meshConfig.rootNamespace | default .Release.Namespace -}}
{{- if ne $root .Release.Namespace -}}
{{- fail "meshConfig.rootNamespace must be the namespace of the installation: the control plane looks for its settings there" -}}
{{- end -}}
{{- $defaults := dict
  "trustDomain" .Values.global.trustDomain
  "rootNamespace" .Release.Namespace
  "defaultProviders" (dict "metrics" (list "prometheus"))
  "defaultConfig" (dict
    "discoveryAddress" (printf "istiod.%s.svc:15012" .Release.Namespace)
    "tracing" (dict "sampling" .Values.traceSampling)) -}}
{{- toYaml (mustMergeOverwrite $defaults (deepCopy .Values.meshConfig)) -}}
{{- end -}}

{{- define "istiod.resources" -}}
{{- if .Values.resources -}}
{{ toYaml .Values.resources }}
{{- else if eq (include "istiod.profile" .) "demo" -}}
requests: {cpu: 50m, memory: 64Mi}
{{- else -}}
requests: {cpu: 500m, memory: 512Mi}
{{- end -}}
{{- end -}}

{{- /* What the values say of every waypoint, as the overlay of a class. */ -}}
{{- define "istiod.waypoint-defaults" -}}
{{- $waypoint := .Values.global.waypoint -}}
{{- $resources := $waypoint.resources -}}
{{- if not $resources -}}
{{- $requests := ternary (dict "cpu" "20m" "memory" "32Mi") (dict "cpu" "100m" "memory" "128Mi") (eq (include "istiod.profile" .) "demo") -}}
{{- $resources = dict "requests" $requests "limits" (dict "cpu" "2" "memory" "1Gi") -}}
{{- end -}}
{{- $pod := dict "containers" (list (dict "name" "istio-proxy" "resources" $resources)) -}}
{{- range $name := list "affinity" "topologySpreadConstraints" "nodeSelector" "tolerations" -}}
{{- with index $waypoint $name -}}
{{- $_ := set $pod $name . -}}
{{- end -}}
{{- end -}}
{{- toYaml (dict "deployment" (dict "spec" (dict "template" (dict "spec" $pod)))) -}}
{{- end -}}

{{- /* More than one pod, or not. */ -}}
{{- define "istiod.several" -}}
{{- if .Values.autoscaleEnabled -}}
{{- if gt (int .Values.autoscaleMin) 1 }}yes{{ end -}}
{{- else -}}
{{- if gt (int .Values.replicaCount) 1 }}yes{{ end -}}
{{- end -}}
{{- end -}}

{{- /* Every variable but those that a pod's own fields give. The user's come last. */ -}}
{{- define "istiod.env" -}}
{{- $mesh := include "istiod.mesh" . | fromYaml -}}
{{- $env := dict
  "CLUSTER_ID" .Values.global.multiCluster.clusterName
  "TRUST_DOMAIN" $mesh.trustDomain
  "CLUSTER_DOMAIN" .Values.global.proxy.clusterDomain
  "ROOT_NAMESPACE" $mesh.rootNamespace
  "CA_TRUSTED_NODE_ACCOUNTS" (printf "%s/%s" (.Values.trustedZtunnelNamespace | default .Release.Namespace) .Values.trustedZtunnelName)
  "REVISION" "default"
  "OWNER_CLUSTER_ROLE" (printf "istiod-clusterrole-%s" .Release.Namespace)
  "PILOT_CA_CERT_CONFIGMAP" .Values.global.trustBundleName
  "WAYPOINT_IMAGE" (include "istiod.waypoint-image" .)
  "WAYPOINT_IMAGE_PULL_POLICY" (.Values.imagePullPolicy | default .Values.global.imagePullPolicy)
  "WAYPOINT_IMAGE_PULL_SECRETS" (join "," (.Values.imagePullSecrets | default .Values.global.imagePullSecrets))
  "WAYPOINT_LOG_LEVEL" .Values.global.proxy.logLevel
  "WAYPOINT_LOG_FORMAT" (ternary "json" "" .Values.global.logAsJson)
  "VALIDATION_FAILURE_POLICY" .Values.validationFailurePolicy
  "RUST_LOG" .Values.logLevel
  "LOG_FORMAT" (ternary "json" "plain" .Values.global.logAsJson)
  "RUST_BACKTRACE" "1"
  "TERMINATION_GRACE_PERIOD_SECONDS" .Values.terminationGracePeriodSeconds -}}
{{- range $name, $value := .Values.env -}}
{{- $_ := set $env $name $value -}}
{{- end -}}
{{- range $name, $value := $env -}}
{{- if ne (toString $value) "" }}
- name: {{ $name }}
  value: {{ $value | toString | quote }}
{{- end -}}
{{- end -}}
{{- end -}}
