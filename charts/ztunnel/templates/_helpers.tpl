{{- /* Without an image there is nothing to install; nobody publishes images under a name we could guess. */ -}}
{{- define "ztunnel.image" -}}
{{- if contains "/" .Values.image -}}
{{ .Values.image }}
{{- else -}}
{{- $hub := .Values.hub | default .Values.global.hub | required "global.hub (or hub) must be set: the registry and path where the image is, such as registry.example.com/mesh" -}}
{{ $hub }}/{{ .Values.image }}:{{ .Values.tag | default .Values.global.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "ztunnel.labels" -}}
app.kubernetes.io/name: ztunnel
app.kubernetes.io/part-of: istio
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "ztunnel.control-plane" -}}
istiod.{{ .Values.istioNamespace | default .Values.global.istioNamespace }}.svc:15012
{{- end -}}

{{- /* Every variable but those that a pod's own fields give. What comes later beats what came before. */ -}}
{{- define "ztunnel.env" -}}
{{- $env := dict
  "XDS_ADDRESS" (.Values.xdsAddress | default (include "ztunnel.control-plane" .))
  "CA_ADDRESS" (.Values.caAddress | default .Values.xdsAddress | default (include "ztunnel.control-plane" .))
  "ISTIO_META_CLUSTER_ID" (.Values.multiCluster.clusterName | default .Values.global.multiCluster.clusterName)
  "NETWORK" (.Values.network | default .Values.global.network)
  "TRUST_DOMAIN" (.Values.meshConfig.trustDomain | default .Values.global.trustDomain)
  "CLUSTER_DOMAIN" .Values.global.proxy.clusterDomain
  "RUST_LOG" .Values.logLevel
  "LOG_FORMAT" (ternary "json" "plain" (or .Values.logAsJson .Values.global.logAsJson))
  "RUST_BACKTRACE" "1"
  "TERMINATION_GRACE_PERIOD_SECONDS" .Values.terminationGracePeriodSeconds -}}
{{- if .Values.peerCaCrl.enabled -}}
{{- $_ := set $env "CRL_PATH" "/var/run/secrets/istio/crl/ca-crl.pem" -}}
{{- end -}}
{{- $resources := include "ztunnel.resources" . | fromYaml -}}
{{- with dig "limits" "cpu" "" $resources -}}
{{- $_ := set $env "ZTUNNEL_RESOURCE_CPU_LIMIT" . -}}
{{- end -}}
{{- with dig "requests" "cpu" "" $resources -}}
{{- $_ := set $env "ZTUNNEL_RESOURCE_CPU_REQUEST" . -}}
{{- end -}}
{{- range $values := list .Values.meshConfig.defaultConfig.proxyMetadata .Values.env -}}
{{- range $name, $value := $values -}}
{{- $_ := set $env $name $value -}}
{{- end -}}
{{- end -}}
{{- range $name, $value := $env -}}
{{- if ne (toString $value) "" }}
- name: {{ $name }}
  value: {{ $value | toString | quote }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "ztunnel.resources" -}}
{{- if .Values.resources -}}
{{ toYaml .Values.resources }}
{{- else if eq (.Values.profile | default .Values.global.profile) "demo" -}}
requests: {cpu: 50m, memory: 64Mi}
{{- else -}}
requests: {cpu: 200m, memory: 512Mi}
{{- end -}}
{{- end -}}
